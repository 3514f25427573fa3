# Run while the archive is made: copies into HET_BUNDLE the shared libraries of HET_PROGRAM and HET_PLUGIN, Open MPI's
# programs and components, and all that these need. Left out is what belongs to the machine: the C library, and what
# must fit the kernel's drivers of GPUs and of InfiniBand.
set(libraries "${HET_BUNDLE}/lib/hetacumn")

# Open MPI says itself where its parts are.
get_filename_component(mpirun "${HET_MPIRUN}" REALPATH)
get_filename_component(mpi_bin "${mpirun}" DIRECTORY)
execute_process(COMMAND "${mpi_bin}/ompi_info" --parsable --path pkglibdir --path pkgdatadir
                OUTPUT_VARIABLE places RESULT_VARIABLE code ERROR_QUIET)
if(NOT code EQUAL 0 OR NOT places MATCHES "path:pkglibdir:([^\n]+)")
  message(FATAL_ERROR "the archive is made with Open MPI, and ${mpi_bin}/ompi_info does not say where its components are")
endif()
set(components "${CMAKE_MATCH_1}")
string(REGEX MATCH "path:pkgdatadir:([^\n]+)" words "${places}")
set(words "${CMAKE_MATCH_1}")

file(GLOB mpi_modules "${components}/mca_*.so")
list(FILTER mpi_modules EXCLUDE REGEX "/mca_(atomic|memheap|scoll|spml|sshmem)_") # OpenSHMEM's
file(REAL_PATH "${mpi_bin}/orted" orted)

set(the_machines_own "^(ld-linux.*|lib(c|m|dl|rt|pthread|resolv|util|mvec|nsl|anl)\\.so.*|lib(ibverbs|rdmacm|efa)\\.so.*|\
lib(cuda|cudart|cublas|cublasLt|cufft|cufftw|curand|cusolver|cusparse|cudnn|nccl|nvrtc|nvJitLink|nvidia).*\\.so.*)$")
function(needed out)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "EXECUTABLES;MODULES")
  file(GET_RUNTIME_DEPENDENCIES EXECUTABLES ${arg_EXECUTABLES} MODULES ${arg_MODULES} PRE_EXCLUDE_REGEXES "${the_machines_own}"
       RESOLVED_DEPENDENCIES_VAR found UNRESOLVED_DEPENDENCIES_VAR missing)
  if(missing)
    message(FATAL_ERROR "libraries that the archive needs are not found: ${missing}")
  endif()
  set(${out} ${found} PARENT_SCOPE)
endfunction()
needed(found EXECUTABLES "${HET_PROGRAM}" "${mpirun}" "${orted}" MODULES ${mpi_modules} ${HET_PLUGIN})

# Libraries with components of their own, which lie beside them.
foreach(library ${found})
  file(REAL_PATH "${library}" library)
  get_filename_component(folder "${library}" DIRECTORY)
  if(library MATCHES "/libpmix\\.so")
    file(GLOB pmix_modules "${folder}/pmix/pmix_mca_*.so")
  elseif(library MATCHES "/libuct\\.so")
    file(GLOB ucx_modules "${folder}/ucx/libuct_*.so.0")
  endif()
endforeach()
needed(more EXECUTABLES "${HET_PROGRAM}" MODULES ${pmix_modules} ${ucx_modules})
list(APPEND found ${more})
list(REMOVE_DUPLICATES found)

# Copies under their own names, without the paths of the system that stand in them: the program's RPATH and mpirun's
# environment say where to look.
function(copy folder)
  foreach(file ${ARGN})
    get_filename_component(name "${file}" NAME)
    file(REAL_PATH "${file}" file)
    file(COPY_FILE "${file}" "${folder}/${name}.new")
    file(RENAME "${folder}/${name}.new" "${folder}/${name}")
    file(CHMOD "${folder}/${name}" PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE
         WORLD_READ WORLD_EXECUTE)
    file(RPATH_REMOVE FILE "${folder}/${name}")
  endforeach()
endfunction()
file(MAKE_DIRECTORY "${libraries}/bin" "${libraries}/openmpi" "${libraries}/pmix" "${libraries}/ucx")
copy("${libraries}" ${found})
copy("${libraries}/bin" "${orted}")
file(COPY_FILE "${mpirun}" "${libraries}/bin/mpirun")
file(RPATH_REMOVE FILE "${libraries}/bin/mpirun")
copy("${libraries}/openmpi" ${mpi_modules})
copy("${libraries}/pmix" ${pmix_modules})
copy("${libraries}/ucx" ${ucx_modules})
file(GLOB help "${words}/*.txt")
list(FILTER help EXCLUDE REGEX "wrapper-data")
file(COPY ${help} DESTINATION "${HET_BUNDLE}/share/openmpi")

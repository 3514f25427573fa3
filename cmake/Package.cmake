# What is installed, and the relocatable archive: hetacumn-VERSION-linux-x86_64.tar.gz, with the libraries and Open MPI's own
# programs in it, runs from any folder without root (docs/cluster.md).
#
#   cmake --install build/release --prefix DIR          the program and its files; libraries come from the system
#   cmake --build build/release --target package        the archive, in build/release
#
# The plugin, if it is built, belongs into lib/hetacumn; its CUDA libraries are the site's.
set(HET_LIBRARIES lib/hetacumn)

# RPATH rather than RUNPATH: it counts for the libraries' own libraries and for components that are loaded later too.
set_target_properties(hetacumn PROPERTIES INSTALL_RPATH "$ORIGIN/../${HET_LIBRARIES}")
target_link_options(hetacumn PRIVATE -Wl,--disable-new-dtags)
install(TARGETS hetacumn)
install(FILES README.md LICENSE DESTINATION share/doc/hetacumn)
install(DIRECTORY docs DESTINATION share/doc/hetacumn)
install(DIRECTORY slurm demo data DESTINATION share/hetacumn USE_SOURCE_PERMISSIONS)
install(PROGRAMS demo.sh DESTINATION share/hetacumn)

# Only in the archive. Open MPI looks for both by name in one folder.
foreach(name mpirun orted)
  add_executable(het_${name} src/mpi/launcher/launcher.c src/mpi/archive.c)
  set_target_properties(het_${name} PROPERTIES OUTPUT_NAME ${name} RUNTIME_OUTPUT_DIRECTORY launchers)
  install(TARGETS het_${name} COMPONENT bundle EXCLUDE_FROM_ALL)
endforeach()
install(FILES cmake/openmpi-mca-params.conf DESTINATION etc COMPONENT bundle EXCLUDE_FROM_ALL)
install(CODE "set(HET_PROGRAM \"$<TARGET_FILE:hetacumn>\")
set(HET_PLUGIN \"$<$<TARGET_EXISTS:hetacumn_cuda>:$<TARGET_FILE:hetacumn_cuda>>\")
set(HET_MPIRUN \"${MPIEXEC_EXECUTABLE}\")
set(HET_BUNDLE \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}\")" COMPONENT bundle EXCLUDE_FROM_ALL)
install(SCRIPT cmake/bundle.cmake COMPONENT bundle EXCLUDE_FROM_ALL)

set(CPACK_GENERATOR TGZ)
set(CPACK_PACKAGE_FILE_NAME hetacumn-${PROJECT_VERSION}-linux-${CMAKE_SYSTEM_PROCESSOR})
set(CPACK_STRIP_FILES TRUE)
set(CPACK_INSTALL_CMAKE_PROJECTS "${CMAKE_BINARY_DIR};hetacumn;ALL;/;${CMAKE_BINARY_DIR};hetacumn;bundle;/")
include(CPack)

#define _GNU_SOURCE /* asprintf, fallocate */
#include "h5.h"

#include <errno.h>
#include <fcntl.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- errors ---- */

static herr_t first_reason(unsigned depth, const H5E_error2_t *error, void *context)
{
    char *text = context;
    if (depth == 0 && error->desc != NULL) snprintf(text, 256, "%s", error->desc);
    return 0;
}

/* HDF5 quotes the system's words as "error message = 'No space left on device', buf = ..." or "... string is '...'". */
static const char *quoted(char *text)
{
    static const char *const marks[] = {"error message = '", "error string is '"};
    for (int i = 0; i < 2; i++) {
        char *start = strstr(text, marks[i]);
        if (start == NULL) continue;
        start += strlen(marks[i]);
        start[strcspn(start, "'")] = '\0';
        return start;
    }
    return text;
}

void het_h5_version(char *text, size_t size)
{
    unsigned major = 0, minor = 0, release = 0;
    H5get_libversion(&major, &minor, &release);
    snprintf(text, size, "HDF5 %u.%u.%u", major, minor, release);
}

het_status het_h5_fail(het_status code, const char *path, const char *what, const char *name)
{
    char text[256] = "unknown reason";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, first_reason, text);
    H5Eclear2(H5E_DEFAULT);
    return het_fail(code, "%s: cannot %s%s%s: %s", path, what, name[0] ? " " : "", name, quoted(text));
}

static void silence(void)
{
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

/* ---- types ---- */

static hid_t small_float(size_t exponent_bits, size_t mantissa_bits, size_t bias)
{
    const hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    H5Tset_fields(type, 15, mantissa_bits, exponent_bits, 0, mantissa_bits);
    H5Tset_size(type, 2);
    H5Tset_ebias(type, bias);
    return type;
}

hid_t het_h5_type(het_dtype type)
{
    switch (type) {
    case HET_F32: return H5Tcopy(H5T_IEEE_F32LE);
    case HET_BF16: return small_float(8, 7, 127);
    case HET_F16: return small_float(5, 10, 15);
    case HET_I32: return H5Tcopy(H5T_STD_I32LE);
    case HET_I64: return H5Tcopy(H5T_STD_I64LE);
    case HET_F64: return H5Tcopy(H5T_IEEE_F64LE);
    }
    HET_ASSERT(!"a known type");
    return -1;
}

/* ---- output ---- */

static het_status system_fail(const char *path, const char *what)
{
    return het_fail(HET_E_IO, "%s: cannot %s: %s", path, what, strerror(errno));
}

/* Rank 0: make sure of `bytes` of disk space for the file. By the system's own calls: MPI-IO's words for a missing folder,
 * permission or space tell less, and HDF5 1.10 crashes at exit after it could not write its records at H5Fclose. */
static het_status reserve(const char *path, int64_t bytes)
{
    het_status status = HET_OK;
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return system_fail(path, "create it");
    if (fallocate(fd, 0, 0, (off_t)bytes) != 0 && errno != EOPNOTSUPP && errno != EINTR) {
        const int reason = errno;
        status = het_fail(HET_E_IO, "%s: cannot reserve %.1f MiB of disk space: %s", path,
                          (double)bytes / 1048576.0, strerror(reason));
    }
    close(fd);
    return status;
}

static het_status agree(const het_h5_output *output, het_status mine)
{
    return output->comm != NULL ? het_comm_agree(output->comm, mine) : mine;
}

static int is_root(const het_h5_output *output)
{
    return output->comm == NULL || het_comm_rank(output->comm) == 0;
}

static het_status create_file(het_h5_output *output)
{
    het_status status = HET_OK;
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    if (output->comm != NULL)
        H5Pset_fapl_mpio(access, *(const MPI_Comm *)het_comm_native(output->comm), MPI_INFO_NULL);
    H5Pset_file_locking(access, 0, 1); /* some cluster file systems cannot lock */
    H5Pset_alignment(access, 65536, 4096);
    output->file = H5Fcreate(output->temporary, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    if (output->file < 0) status = het_h5_fail(HET_E_IO, output->temporary, "create it", "");
    H5Pclose(access);
    return agree(output, status);
}

het_status het_h5_begin(het_h5_output *output, het_comm *comm, const char *path, int64_t bytes)
{
    het_status status = HET_OK;
    silence();
    *output = (het_h5_output){.file = -1, .comm = comm, .path = strdup(path)};
    if (comm != NULL) output->before = het_comm_phase(comm, "writing a file");
    if (asprintf(&output->temporary, "%s.tmp", path) < 0) output->temporary = NULL;
    if (output->path == NULL || output->temporary == NULL)
        status = het_fail(HET_E_MEMORY, "%s: no memory", path);
    else if (is_root(output)) status = reserve(output->temporary, bytes);
    HET_TRY(agree(output, status));
    HET_TRY(create_file(output)); /* which gives the space back */
    if (is_root(output)) status = reserve(output->temporary, bytes);
    HET_TRY(agree(output, status));
done:
    return status;
}

het_status het_h5_settle(het_h5_output *output)
{
    het_status status = HET_OK;
    if (H5Fflush(output->file, H5F_SCOPE_GLOBAL) < 0)
        status = het_h5_fail(HET_E_IO, output->path, "be written", "");
    return agree(output, status);
}

het_status het_h5_create(het_h5_output *output, hid_t *dataset, const char *name, hid_t type, int rank,
                         const int64_t *shape, const void *fill)
{
    het_status status = HET_OK;
    hsize_t dims[HET_MAX_RANK] = {0};
    for (int i = 0; i < rank; i++) dims[i] = (hsize_t)shape[i];
    const hid_t space = rank > 0 ? H5Screate_simple(rank, dims, NULL) : H5Screate(H5S_SCALAR);
    const hid_t links = H5Pcreate(H5P_LINK_CREATE), creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_create_intermediate_group(links, 1);
    H5Pset_obj_track_times(creation, 0); /* equal content, equal bytes */
    H5Pset_layout(creation, H5D_CONTIGUOUS);
    H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(creation, fill != NULL ? H5D_FILL_TIME_ALLOC : H5D_FILL_TIME_NEVER);
    if (fill != NULL) H5Pset_fill_value(creation, type, fill);
    *dataset = H5Dcreate2(output->file, name, type, space, links, creation, H5P_DEFAULT);
    if (*dataset < 0) status = het_h5_fail(HET_E_IO, output->path, "create", name);
    H5Pclose(creation);
    H5Pclose(links);
    H5Sclose(space);
    return agree(output, status);
}

/* One collective write: rows [first, first+count) of this rank. */
static herr_t write_piece(hid_t dataset, hid_t type, int64_t first, int64_t count, const void *data,
                          hid_t transfer)
{
    hsize_t start[HET_MAX_RANK] = {(hsize_t)first}, size[HET_MAX_RANK] = {0};
    const hid_t target = H5Dget_space(dataset);
    const int rank = H5Sget_simple_extent_ndims(target);
    H5Sget_simple_extent_dims(target, size, NULL);
    size[0] = (hsize_t)count;
    const hid_t source = rank > 0 ? H5Screate_simple(rank, size, NULL) : H5Screate(H5S_SCALAR);
    if (count == 0) {
        H5Sselect_none(source);
        H5Sselect_none(target);
    } else if (rank > 0) {
        H5Sselect_hyperslab(target, H5S_SELECT_SET, start, NULL, size, NULL);
    }
    const herr_t result = H5Dwrite(dataset, type, source, target, transfer, data);
    H5Sclose(source);
    H5Sclose(target);
    return result;
}

het_status het_h5_write(het_h5_output *output, hid_t dataset, const char *name, hid_t type, int64_t first,
                        int64_t count, int64_t row_bytes, const void *data)
{
    het_status status = HET_OK;
    static const char nothing[8]; /* HDF5 wants an address even for an empty selection */
    const int64_t piece_bytes = (int64_t)64 << 20;
    const int64_t per_piece = row_bytes < piece_bytes ? piece_bytes / (row_bytes > 0 ? row_bytes : 1) : 1;
    int64_t pieces = (count + per_piece - 1) / per_piece;
    hid_t transfer = -1;
    if (output->comm != NULL) HET_TRY(het_comm_max_i64(output->comm, &pieces, 1));
    transfer = H5Pcreate(H5P_DATASET_XFER);
    if (output->comm != NULL) H5Pset_dxpl_mpio(transfer, H5FD_MPIO_COLLECTIVE);
    for (int64_t i = 0; i < pieces; i++) {
        const int64_t done = i * per_piece < count ? i * per_piece : count;
        const int64_t rows = count - done < per_piece ? count - done : per_piece;
        const void *from = rows > 0 ? (const char *)data + done * row_bytes : nothing;
        /* After a failure here the other ranks still expect us in the remaining collective writes. */
        if (write_piece(dataset, type, first + done, rows, from, transfer) < 0 && status == HET_OK)
            status = het_h5_fail(HET_E_IO, output->path, "write", name);
    }
    status = agree(output, status);
done:
    if (transfer >= 0) H5Pclose(transfer);
    return status;
}

/* The space is closed. */
static het_status set_in(hid_t space, het_h5_output *output, hid_t object, const char *name, hid_t type, const void *value)
{
    het_status status = HET_OK;
    const hid_t owner = object < 0 ? output->file : object;
    const int exists = H5Aexists(owner, name) > 0;
    const hid_t attribute = exists ? H5Aopen(owner, name, H5P_DEFAULT)
                                   : H5Acreate2(owner, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    if (attribute < 0 || H5Awrite(attribute, type, value) < 0)
        status = het_h5_fail(HET_E_IO, output->path, "write the attribute", name);
    if (attribute >= 0) H5Aclose(attribute);
    H5Sclose(space);
    return agree(output, status);
}

het_status het_h5_set(het_h5_output *output, hid_t object, const char *name, hid_t type, const void *value)
{
    return set_in(H5Screate(H5S_SCALAR), output, object, name, type, value);
}

het_status het_h5_set_row(het_h5_output *output, hid_t object, const char *name, int64_t count, const double *values)
{
    const hsize_t size = (hsize_t)count;
    return set_in(H5Screate_simple(1, &size, NULL), output, object, name, H5T_IEEE_F64LE, values);
}

static het_status sync_path(const char *path, int flags)
{
    const int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0) return system_fail(path, "open it");
    const het_status status =
        fsync(fd) == 0 || errno == EINVAL ? HET_OK : system_fail(path, "make it durable");
    close(fd);
    return status;
}

static het_status sync_folder_of(const char *path)
{
    char folder[4096];
    const char *slash = strrchr(path, '/');
    const int length = slash == NULL ? 0 : slash == path ? 1 : (int)(slash - path);
    snprintf(folder, sizeof folder, "%.*s", length > 0 ? length : 1, length > 0 ? path : ".");
    return sync_path(folder, O_RDONLY | O_DIRECTORY);
}

/* HDF5's serial driver leaves what was reserved beyond the last byte that it uses; MPI-IO's does not. */
static het_status trim(const het_h5_output *output)
{
    haddr_t end = 0;
    if (output->comm != NULL) return HET_OK;
    if (H5Fget_eoa(output->file, &end) < 0) return het_h5_fail(HET_E_IO, output->path, "be measured", "");
    return truncate(output->temporary, (off_t)end) == 0 ? HET_OK : system_fail(output->path, "be trimmed");
}

static het_status publish(const het_h5_output *output)
{
    het_status status = sync_path(output->temporary, O_RDWR);
    if (status != HET_OK) return status;
    if (rename(output->temporary, output->path) != 0)
        return system_fail(output->path, "rename the new file to it");
    return sync_folder_of(output->path);
}

het_status het_h5_end(het_h5_output *output, het_status mine)
{
    het_status status = agree(output, mine);
    if (output->file >= 0) {
        /* The flush (MPI_File_sync) makes every rank's data durable and brings errors that a node has put off. */
        if (status == HET_OK) status = het_h5_settle(output);
        if (status == HET_OK) status = trim(output);
        het_status closed = HET_OK;
        if (H5Fclose(output->file) < 0 && status == HET_OK)
            closed = het_h5_fail(HET_E_IO, output->path, "close", "the file");
        H5Eclear2(H5E_DEFAULT);
        if (status == HET_OK) status = agree(output, closed);
    }
    if (status == HET_OK) {
        het_status published = HET_OK;
        if (is_root(output)) published = publish(output);
        status = agree(output, published);
    }
    if (status != HET_OK) {
        if (output->temporary != NULL && is_root(output)) unlink(output->temporary);
        if (output->comm != NULL) het_comm_barrier(output->comm); /* gone when any rank returns */
    }
    if (output->comm != NULL) het_comm_phase(output->comm, output->before);
    free(output->path);
    free(output->temporary);
    *output = (het_h5_output){.file = -1};
    return status;
}

/* ---- input ---- */

het_status het_h5_open(het_h5_input *input, const char *path)
{
    het_status status = HET_OK;
    struct stat info;
    silence();
    *input = (het_h5_input){.file = -1, .fd = -1, .path = strdup(path)};
    if (input->path == NULL) return het_fail(HET_E_MEMORY, "%s: no memory", path);
    input->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (input->fd < 0 || fstat(input->fd, &info) != 0) status = system_fail(path, "open it");
    else if (!S_ISREG(info.st_mode)) status = het_fail(HET_E_INPUT, "%s: this is no file", path);
    if (status == HET_OK) {
        const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
        H5Pset_file_locking(access, 0, 1); /* finished files do not change; some cluster file systems cannot lock */
        input->size = info.st_size;
        input->file = H5Fopen(path, H5F_ACC_RDONLY, access);
        H5Pclose(access);
        if (input->file < 0)
            status = het_h5_fail(HET_E_INPUT, path, "be read as HDF5", "(damaged, cut off or another kind)");
    }
    if (status != HET_OK) het_h5_close(input);
    return status;
}

void het_h5_close(het_h5_input *input)
{
    if (input->file > 0) H5Fclose(input->file);
    if (input->path != NULL && input->fd >= 0) close(input->fd);
    free(input->path);
    *input = (het_h5_input){.file = -1, .fd = -1};
}

static het_status get_of(int64_t count, const het_h5_input *input, hid_t object, const char *name, hid_t type, void *value)
{
    het_status status = HET_OK;
    hid_t space = -1;
    const hid_t attribute = H5Aopen(object < 0 ? input->file : object, name, H5P_DEFAULT);
    if (attribute >= 0) space = H5Aget_space(attribute);
    if (attribute < 0 || H5Sget_simple_extent_npoints(space) != count || H5Aread(attribute, type, value) < 0)
        status = het_h5_fail(HET_E_INPUT, input->path, "read the attribute", name);
    if (space >= 0) H5Sclose(space);
    if (attribute >= 0) H5Aclose(attribute);
    return status;
}

het_status het_h5_get(const het_h5_input *input, hid_t object, const char *name, hid_t type, void *value)
{
    return get_of(1, input, object, name, type, value);
}

het_status het_h5_get_row(const het_h5_input *input, hid_t object, const char *name, int64_t count, double *values)
{
    return get_of(count, input, object, name, H5T_NATIVE_DOUBLE, values);
}

int het_h5_exists(const het_h5_input *input, const char *name)
{
    return H5Lexists(input->file, name, H5P_DEFAULT) > 0;
}

/* Where the data lies in the file, if all of it does. */
static het_status locate(const het_h5_input *input, hid_t dataset, const char *name, int64_t count,
                         int64_t *offset)
{
    const hid_t type = H5Dget_type(dataset), creation = H5Dget_create_plist(dataset);
    const int64_t item = (int64_t)H5Tget_size(type);
    const haddr_t address = H5Dget_offset(dataset);
    const int contiguous = H5Pget_layout(creation) == H5D_CONTIGUOUS && H5Pget_external_count(creation) == 0;
    H5Pclose(creation);
    H5Tclose(type);
    *offset = 0;
    if (!contiguous)
        return het_fail(HET_E_INPUT,
                        "%s: %s is not stored in one piece: rewrite it without chunks or filters",
                        input->path, name);
    if (count == 0) return HET_OK;
    if (address == HADDR_UNDEF || item <= 0 || address > (haddr_t)input->size ||
        count > (input->size - (int64_t)address) / item)
        return het_fail(HET_E_INPUT, "%s: %s reaches beyond the end of the file: it is damaged or cut off",
                        input->path, name);
    *offset = (int64_t)address;
    return HET_OK;
}

het_status het_h5_dataset(const het_h5_input *input, hid_t *dataset, const char *name, int rank,
                          int64_t *shape, int64_t *offset)
{
    het_status status = HET_OK;
    hsize_t dims[H5S_MAX_RANK] = {0};
    int64_t count = 1;
    *dataset = H5Dopen2(input->file, name, H5P_DEFAULT);
    if (*dataset < 0) return het_h5_fail(HET_E_INPUT, input->path, "find", name);
    const hid_t space = H5Dget_space(*dataset);
    const int found = H5Sget_simple_extent_dims(space, dims, NULL);
    H5Sclose(space);
    if (found != rank)
        status = het_fail(HET_E_INPUT, "%s: %s has %d dimensions, not %d", input->path, name, found, rank);
    for (int i = 0; status == HET_OK && i < rank; i++) {
        const int64_t most = dims[i] > 0 ? INT64_MAX / (int64_t)dims[i] : INT64_MAX;
        if (dims[i] > (hsize_t)1 << 48 || count > most)
            status =
                het_fail(HET_E_INPUT, "%s: %s has impossible dimensions: it is damaged", input->path, name);
        count *= (int64_t)(status == HET_OK ? dims[i] : 0);
        shape[i] = (int64_t)dims[i];
    }
    if (status == HET_OK) status = locate(input, *dataset, name, count, offset);
    if (status != HET_OK) {
        H5Dclose(*dataset);
        *dataset = -1;
    }
    return status;
}

het_status het_h5_pread(const het_h5_input *input, void *data, int64_t bytes, int64_t offset)
{
    char *to = data;
    while (bytes > 0) {
        const ssize_t got = pread(input->fd, to, (size_t)bytes, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return system_fail(input->path, "read it");
        if (got == 0)
            return het_fail(HET_E_IO, "%s: the file has become shorter while it was read", input->path);
        to += got;
        offset += got;
        bytes -= got;
    }
    return HET_OK;
}

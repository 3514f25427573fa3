#include "train_images.h"

#include "arena.h"
#include "clock.h"
#include "log.h"
#include "stop.h"

enum { AT_ONCE = 64 }; /* images in a piece */

/* From the files to the device, piece by piece. */
static het_status copy(const het_trainer *t)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(t->stack);
    het_device *dev = t->model->dev;
    const int64_t pixels = info->box * info->box, bytes = pixels * het_dtype_size(t->images.type);
    int64_t index[AT_ONCE];
    char *stored = t->images.stored;
    void *piece = het_alloc((size_t)(AT_ONCE * pixels) * sizeof(float));
    if (piece == NULL) return het_fail(HET_E_MEMORY, "no memory for %d images", AT_ONCE);
    for (int64_t first = 0; first < info->count; first += AT_ONCE) {
        const int64_t n = info->count - first < AT_ONCE ? info->count - first : AT_ONCE;
        for (int64_t i = 0; i < n; i++) index[i] = first + i;
        HET_TRY(het_images_read(t->stack, piece, t->images.type, index, n));
        dev->ops->upload(dev, stored + first * bytes, piece, (size_t)(n * bytes));
        if (het_stop_signal() != 0) HET_TRY(het_stop_status()); /* not for its time: every start of the program gets on */
    }
    status = dev->ops->sync(dev);
done:
    het_release(piece);
    return status;
}

het_status het_train_images_open(het_trainer *t)
{
    het_status status = HET_OK;
    const het_stack_info *info = het_stack_get_info(t->stack);
    het_device *dev = t->model->dev;
    const double began = het_seconds();
    t->images = (het_images){.device = dev, .type = het_model_image_type(dev)};
    if (!t->stores) return HET_OK;
    const size_t bytes = (size_t)(info->count * info->box * info->box * het_dtype_size(t->images.type));
    t->images.stored = dev->ops->alloc(dev, bytes);
    int64_t lacking = t->images.stored == NULL;
    HET_TRY(het_comm_sum_i64(t->comm, &lacking, 1));
    if (lacking > 0 && t->config->run.device_data == HET_DEVICE_DATA_AUTO) {
        het_warn("the images do not fit into the device's memory: every batch is read from the stack");
        het_train_images_close(t);
        goto done;
    }
    if (lacking > 0 && t->images.stored == NULL)
        status = het_fail(HET_E_MEMORY, "no memory on the device for %.1f MiB of images: take run.device_data=no",
                          (double)bytes / 1048576.0);
    HET_TRY(het_comm_agree(t->comm, status));
    het_comm_phase(t->comm, "the images");
    HET_TRY(het_comm_agree(t->comm, copy(t)));
    het_info("the images are in the device's memory: %.1f MiB, read in %.1f s", (double)bytes / 1048576.0, het_seconds() - began);
done:
    return status;
}

void het_train_images_close(het_trainer *t)
{
    if (t->images.stored != NULL) t->model->dev->ops->release(t->model->dev, t->images.stored);
    t->images.stored = NULL;
}

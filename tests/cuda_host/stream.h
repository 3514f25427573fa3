#pragma once
#include <functional>
#include <vector>

/** The double's streams, for doubles of other libraries. Kernels, copies and fills are done when the call returns; what
 *  another library puts on a stream is done later, when somebody asks for an event or waits. While a stream captures, all is
 *  recorded instead, and done whenever the graph is launched. */
typedef int het_host_work(void *context); /* not 0: done, and context is gone */

struct het_host_queued {
    het_host_work *work;
    void *context;
    het_host_queued *next;
};

struct het_host_stream {
    int priority;
    long queued, finished;       /* works of other libraries, ever */
    het_host_queued *first, *last;
    long seen;                   /* launches that whatever is put on this stream now comes after ... */
    const long *launches;        /* ... of so many on any stream */
    void (*put)(het_host_stream *stream, het_host_work *work, void *context);
    void (*open)(void);          /* device memory: see tests/guard.h */
    void (*close)(void);
    std::vector<std::function<void()>> *recorded; /* NULL: the stream does not capture */
};

/* Whether the stream captures: then `work` is done later. */
template <class Work> static inline int het_host_record(het_host_stream *stream, const Work &work)
{
    if (stream->recorded == NULL) return 0;
    stream->recorded->push_back(work);
    return 1;
}

/*
 * Loaded before OpenDKIM. It makes a libunbound context for each of its threads and lets each read the same configuration;
 * libunbound's reader keeps its state in one place for all, so that two at a time see half a file, or end the program.
 * Here one reads after the other. Nothing else is changed.
 *
 * cc -O2 -Wall -Wextra -Werror -shared -fPIC one_reader.c -ldl -lpthread
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>

struct ub_ctx;
typedef int (*reader)(struct ub_ctx *, const char *);

int ub_ctx_config(struct ub_ctx *context, const char *file)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    reader read_file;
    int status = -1;

    pthread_mutex_lock(&lock);
    *(void **) &read_file = dlsym(RTLD_NEXT, "ub_ctx_config");
    if (read_file)
        status = read_file(context, file);
    pthread_mutex_unlock(&lock);
    return status;
}

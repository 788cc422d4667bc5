/*
 * Way three in a program that lives on libevent: verdicts come as callbacks on its loop.
 *
 *     libevent SERVER IP HELO MAIL-FROM FILE...
 *
 * SERVER is the address of a DNS server, as IP or IP:PORT. Verdicts are printed as JSON, in the order in which they are
 * reached.
 */
#include <mailproof.h>

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 16

typedef struct {
    struct event_base *loop;
    mailproof_queue *queue;
    char **names;
    int open;
} work;

static void check(mailproof_status status, const char *what)
{
    if (status != MAILPROOF_STATUS_OK) {
        fprintf(stderr, "libevent: %s: %s\n", what, mailproof_last_error());
        exit(70);
    }
}

static char *read_file(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    size_t room = 1 << 16, count;
    char *octets = (char *)malloc(room);

    *length = 0;
    if (file == NULL || octets == NULL) {
        perror(path);
        exit(66);
    }
    while ((count = fread(octets + *length, 1, room - *length, file)) > 0) {
        *length += count;
        if (*length == room) {
            char *more = (char *)realloc(octets, room *= 2);
            if (more == NULL) {
                perror(path);
                exit(71);
            }
            octets = more;
        }
    }
    if (ferror(file)) { /* A folder, or a disk that fails: what was read is not the message. */
        perror(path);
        exit(66);
    }
    fclose(file);
    return octets;
}

/* Called by libevent when verdicts are there. What does not fit makes the descriptor readable again. */
static void on_verdicts(evutil_socket_t descriptor, short events, void *context)
{
    work *it = (work *)context;
    mailproof_completion completions[BATCH];
    size_t count, index;

    (void)descriptor;
    (void)events;
    check(mailproof_queue_drain(it->queue, completions, BATCH, &count), "drain");
    for (index = 0; index < count; index++) {
        char *json;
        check(mailproof_verdict_json(completions[index].verdict, it->names[completions[index].token], &json), "JSON");
        puts(json);
        mailproof_text_free(json);
        mailproof_verdict_free(completions[index].verdict);
    }
    it->open -= (int)count;
    if (it->open == 0)
        event_base_loopbreak(it->loop);
}

int main(int argc, char **argv)
{
    mailproof_engine_options options;
    mailproof_engine *engine;
    mailproof_envelope envelope;
    struct event *event;
    work it;
    int descriptor, index, count = argc - 5;
    const char *servers[1];

    if (count < 1) {
        fprintf(stderr, "usage: libevent SERVER IP HELO MAIL-FROM FILE...\n");
        return 64;
    }
    check(mailproof_engine_options_init(sizeof options, &options), "options");
    servers[0] = argv[1];
    options.authserv_id = "mx.example.net";
    options.dns = MAILPROOF_DNS_SERVERS;
    options.servers = servers;
    options.server_count = 1;
    options.threads = 1;
    check(mailproof_engine_new(&options, &engine), "engine");
    check(mailproof_queue_new(engine, 0, &it.queue), "queue");
    check(mailproof_queue_descriptor(it.queue, &descriptor), "descriptor");

    it.names = argv + 5;
    it.open = count;
    it.loop = event_base_new();
    event = it.loop == NULL ? NULL : event_new(it.loop, descriptor, EV_READ | EV_PERSIST, on_verdicts, &it);
    if (event == NULL || event_add(event, NULL) != 0) {
        fprintf(stderr, "libevent: no event loop\n");
        return 71;
    }

    memset(&envelope, 0, sizeof envelope);
    envelope.size = sizeof envelope;
    envelope.ip = argv[2];
    envelope.helo = argv[3];
    envelope.mail_from = argv[4];
    envelope.flags = MAILPROOF_LINE_ENDS_LF;
    for (index = 0; index < count; index++) {
        size_t length;
        char *message = read_file(it.names[index], &length);
        check(mailproof_queue_submit(it.queue, message, length, &envelope, (uint64_t)index), it.names[index]);
        free(message); /* The queue has a copy. */
    }
    event_base_dispatch(it.loop);

    event_free(event);
    event_base_free(it.loop);
    mailproof_queue_free(it.queue);
    mailproof_engine_free(engine);
    return 0;
}

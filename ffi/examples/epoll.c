/*
 * Way three: the engine verifies on its own threads, and an event loop that waits for many things waits for verdicts too.
 *
 *     epoll SERVER IP HELO MAIL-FROM FILE...
 *
 * SERVER is the address of a DNS server, as IP or IP:PORT. Verdicts are printed as JSON, in the order in which they are
 * reached.
 */
#include <mailproof.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define BATCH 16

static void check(mailproof_status status, const char *what)
{
    if (status != MAILPROOF_STATUS_OK) {
        fprintf(stderr, "epoll: %s: %s\n", what, mailproof_last_error());
        exit(70);
    }
}

static void must(int result, const char *what)
{
    if (result < 0) {
        perror(what);
        exit(71);
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

/* Prints the verdicts that are there; gives how many there were. */
static int drain(const mailproof_queue *queue, char **names)
{
    mailproof_completion completions[BATCH];
    size_t count, index;

    check(mailproof_queue_drain(queue, completions, BATCH, &count), "drain");
    for (index = 0; index < count; index++) {
        char *json;
        check(mailproof_verdict_json(completions[index].verdict, names[completions[index].token], &json), "JSON");
        puts(json);
        mailproof_text_free(json);
        mailproof_verdict_free(completions[index].verdict);
    }
    return (int)count;
}

int main(int argc, char **argv)
{
    mailproof_engine_options options;
    mailproof_engine *engine;
    mailproof_queue *queue;
    mailproof_envelope envelope;
    struct epoll_event event;
    int descriptor, loop, index, open = argc - 5;
    const char *servers[1];

    if (open < 1) {
        fprintf(stderr, "usage: epoll SERVER IP HELO MAIL-FROM FILE...\n");
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
    check(mailproof_queue_new(engine, 0, &queue), "queue");
    check(mailproof_queue_descriptor(queue, &descriptor), "descriptor");

    loop = epoll_create1(EPOLL_CLOEXEC);
    must(loop, "epoll_create1");
    memset(&event, 0, sizeof event);
    event.events = EPOLLIN;
    must(epoll_ctl(loop, EPOLL_CTL_ADD, descriptor, &event), "epoll_ctl");

    memset(&envelope, 0, sizeof envelope);
    envelope.size = sizeof envelope;
    envelope.ip = argv[2];
    envelope.helo = argv[3];
    envelope.mail_from = argv[4];
    envelope.flags = MAILPROOF_LINE_ENDS_LF;
    for (index = 0; index < open; index++) {
        size_t length;
        char *message = read_file(argv[5 + index], &length);
        check(mailproof_queue_submit(queue, message, length, &envelope, (uint64_t)index), argv[5 + index]);
        free(message); /* The queue has a copy. */
    }

    while (open > 0) {
        struct epoll_event ready;
        int count = epoll_wait(loop, &ready, 1, -1);
        if (count < 0 && errno == EINTR)
            continue;
        must(count, "epoll_wait");
        open -= drain(queue, argv + 5);
    }
    close(loop);
    mailproof_queue_free(queue);
    mailproof_engine_free(engine);
    return 0;
}

/*
 * The C side of the overhead bench: verifies the messages of a list over and over, through one way into the library.
 *
 *     overhead WAY LIST ZONE SERVER ROUNDS
 *
 * WAY is one, stream or loop. A line of LIST has a file, IP, HELO and MAIL FROM, with tabs between. Prints nanoseconds a
 * message of all rounds but the first, which warms up, and a sum over the actions, which tells that the work was done.
 */
#define _DEFAULT_SOURCE 1

#include <mailproof.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MESSAGES_MAX 4096
#define PIECE_OCTETS 16384
#define IN_FLIGHT_MAX 256

typedef struct {
    char *line;
    unsigned char *octets;
    size_t length;
    mailproof_envelope envelope;
} mail;

static mail mails[MESSAGES_MAX];
static size_t mail_count;
static unsigned long action_sum;

static void check(mailproof_status status)
{
    if (status != MAILPROOF_STATUS_OK) {
        fprintf(stderr, "overhead: %s\n", mailproof_last_error());
        exit(1);
    }
}

static void read_mail(mail *it, const char *line)
{
    char *words[4];
    size_t index;
    FILE *file;

    it->line = strdup(line);
    if (it->line == NULL)
        exit(1);
    it->line[strcspn(it->line, "\n")] = '\0';
    words[0] = it->line;
    for (index = 1; index < 4; index++) {
        words[index] = strchr(words[index - 1], '\t');
        if (words[index] == NULL)
            exit(1);
        *words[index]++ = '\0';
    }
    file = fopen(words[0], "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0)
        exit(1);
    /* As much as it has: messages far apart in memory cost time that is not the library's. */
    it->length = (size_t)ftell(file);
    it->octets = (unsigned char *)malloc(it->length);
    rewind(file);
    if (it->octets == NULL || fread(it->octets, 1, it->length, file) != it->length)
        exit(1);
    fclose(file);
    it->envelope.size = sizeof it->envelope;
    it->envelope.ip = words[1];
    it->envelope.helo = words[2];
    it->envelope.mail_from = words[3];
}

static mailproof_engine *make_engine(const char *zone_path, const char *server)
{
    mailproof_engine_options options;
    mailproof_engine *engine;
    mailproof_zone *zone = NULL;

    check(mailproof_engine_options_init(sizeof options, &options));
    options.authserv_id = "mx.receiver.example";
    options.threads = 1;
    options.now_seconds = 1795392000;
    if (zone_path != NULL) {
        check(mailproof_zone_new(&zone));
        check(mailproof_zone_add_file(zone, zone_path));
        options.dns = MAILPROOF_DNS_ZONE;
        options.zone = zone;
    } else {
        options.dns = MAILPROOF_DNS_SERVERS;
        options.servers = &server;
        options.server_count = 1;
    }
    check(mailproof_engine_new(&options, &engine));
    mailproof_zone_free(zone);
    return engine;
}

/* What every caller does with a verdict. */
static void use(mailproof_verdict *verdict)
{
    mailproof_action action;

    check(mailproof_verdict_action(verdict, &action));
    action_sum += (unsigned long)action + 1;
    mailproof_verdict_free(verdict);
}

static void round_of_one(const mailproof_engine *engine)
{
    size_t index;

    for (index = 0; index < mail_count; index++) {
        mailproof_verdict *verdict;
        check(mailproof_verify(engine, mails[index].octets, mails[index].length, &mails[index].envelope, &verdict));
        use(verdict);
    }
}

static void round_of_stream(mailproof_session *session)
{
    size_t index, at;

    for (index = 0; index < mail_count; index++) {
        const mail *it = &mails[index];
        mailproof_verdict *verdict;
        check(mailproof_session_restart(session, &it->envelope));
        for (at = 0; at < it->length; at += PIECE_OCTETS) {
            size_t left = it->length - at;
            check(mailproof_session_push(session, it->octets + at, left < PIECE_OCTETS ? left : PIECE_OCTETS));
        }
        check(mailproof_session_finish(session, &verdict));
        use(verdict);
    }
}

static void round_of_loop(const mailproof_queue *queue)
{
    static mailproof_completion completions[IN_FLIGHT_MAX];
    struct pollfd ready;
    size_t index = 0, open = 0, count, at;

    check(mailproof_queue_descriptor(queue, &ready.fd));
    ready.events = POLLIN;
    while (index < mail_count || open > 0) {
        for (; index < mail_count && open < IN_FLIGHT_MAX; index++, open++)
            check(mailproof_queue_submit(queue, mails[index].octets, mails[index].length, &mails[index].envelope, index));
        poll(&ready, 1, -1);
        check(mailproof_queue_drain(queue, completions, IN_FLIGHT_MAX, &count));
        for (at = 0; at < count; at++)
            use(completions[at].verdict);
        open -= count;
    }
}

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

int main(int argc, char **argv)
{
    mailproof_engine *engine;
    mailproof_session *session;
    mailproof_queue *queue;
    unsigned long round, rounds;
    char line[4096];
    double started = 0;
    int is_loop;
    FILE *list;

    if (argc != 6)
        return 64;
    list = fopen(argv[2], "r");
    if (list == NULL)
        return 66;
    while (mail_count < MESSAGES_MAX && fgets(line, sizeof line, list) != NULL)
        read_mail(&mails[mail_count++], line);
    fclose(list);
    is_loop = strcmp(argv[1], "loop") == 0;
    engine = make_engine(is_loop ? NULL : argv[3], argv[4]);
    check(mailproof_session_new(engine, &mails[0].envelope, &session));
    check(mailproof_queue_new(engine, IN_FLIGHT_MAX, &queue));
    rounds = strtoul(argv[5], NULL, 10);
    for (round = 0; round <= rounds; round++) {
        if (round == 1)
            started = now();
        if (is_loop)
            round_of_loop(queue);
        else if (strcmp(argv[1], "stream") == 0)
            round_of_stream(session);
        else
            round_of_one(engine);
    }
    printf("%.0f %lu\n", rounds == 0 ? 0 : (now() - started) / (double)(rounds * mail_count), action_sum);
    mailproof_queue_free(queue);
    mailproof_session_free(session);
    mailproof_engine_free(engine);
    return 0;
}

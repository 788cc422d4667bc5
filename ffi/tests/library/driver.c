/*
 * Runs the cases of a list through one way into the library and prints the verdict of each as JSON, a line each.
 *
 *     driver WAY LIST
 *
 * WAY is one, threads, stream, fields, loop or own. A line of LIST has these words, with tabs between, "-" for none: name,
 * file of the message, IP, HELO, MAIL FROM, policy, flags, time, file of the zone, DNS server, file of answers.
 */
#define _DEFAULT_SOURCE 1

#include <mailproof.h>

#ifndef DRIVER_WITHOUT_THREADS
#include <poll.h>
#include <pthread.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CASES_MAX 256
#define WORDS 11
#define THREADS 4
#define ANSWERS_MAX 512
#define RECORDS_MAX 64

typedef struct {
    char *line;
    const char *name, *ip, *helo, *mail_from, *answers;
    unsigned char *message;
    size_t length;
    mailproof_engine *engine;
    mailproof_session *session;
    mailproof_queue *queue;
    size_t position;
    char *json;
} test_case;

typedef struct {
    char *name, *message, *records;
    unsigned type, outcome;
    unsigned long long ttl;
} known_answer;

static test_case cases[CASES_MAX];
static size_t case_count;

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "driver: %s: %s\n", what, why);
    exit(1);
}

static void check(mailproof_status status, const char *what)
{
    if (status != MAILPROOF_STATUS_OK)
        fail(what, mailproof_last_error());
}

static void *room(size_t length)
{
    void *it = calloc(1, length + 1);
    if (it == NULL)
        fail("memory", "none");
    return it;
}

static unsigned char *read_file(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    unsigned char *octets;
    long end;

    if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (end = ftell(file)) < 0)
        fail(path, "can not be read");
    rewind(file);
    octets = (unsigned char *)room((size_t)end);
    *length = fread(octets, 1, (size_t)end, file);
    fclose(file);
    return octets;
}

/* Cuts a line at its tabs; "-" becomes NULL. */
static void cut(char *line, char **words, size_t count)
{
    size_t index;

    for (index = 0; index < count; index++) {
        char *end = strpbrk(line, "\t\n");
        words[index] = line;
        if (end == NULL)
            end = line + strlen(line);
        line = *end == '\0' ? end : end + 1;
        *end = '\0';
        if (strcmp(words[index], "-") == 0)
            words[index] = NULL;
    }
}

static mailproof_envelope envelope_of(const test_case *it)
{
    mailproof_envelope envelope;

    memset(&envelope, 0, sizeof envelope);
    envelope.size = sizeof envelope;
    envelope.ip = it->ip;
    envelope.helo = it->helo;
    envelope.mail_from = it->mail_from;
    return envelope;
}

static void make_engine(test_case *it, char **words, int is_own)
{
    mailproof_engine_options options;
    mailproof_zone *zone = NULL;
    const char *servers[1];

    check(mailproof_engine_options_init(sizeof options, &options), "options");
    options.authserv_id = "mx.example.net";
    options.policy = (uint32_t)strtoul(words[5], NULL, 10);
    options.flags = strtoull(words[6], NULL, 10);
    options.now_seconds = strtoull(words[7], NULL, 10);
    options.threads = 1;
    servers[0] = words[9];
    if (is_own) {
        options.dns = MAILPROOF_DNS_CALLER;
    } else if (words[9] != NULL) {
        options.dns = MAILPROOF_DNS_SERVERS;
        options.servers = servers;
        options.server_count = 1;
    } else {
        options.dns = MAILPROOF_DNS_ZONE;
        check(mailproof_zone_new(&zone), it->name);
        check(mailproof_zone_add_file(zone, words[8]), it->name);
        options.zone = zone;
    }
    check(mailproof_engine_new(&options, &it->engine), it->name);
    mailproof_zone_free(zone);
}

static void read_cases(const char *path, int is_own)
{
    FILE *list = fopen(path, "r");
    char line[4096];

    if (list == NULL)
        fail(path, "can not be read");
    while (fgets(line, sizeof line, list) != NULL) {
        test_case *it = &cases[case_count++];
        char *words[WORDS];
        if (case_count > CASES_MAX)
            fail(path, "too many cases");
        it->line = (char *)room(strlen(line));
        strcpy(it->line, line);
        cut(it->line, words, WORDS);
        it->name = words[0];
        it->message = read_file(words[1], &it->length);
        it->ip = words[2];
        it->helo = words[3];
        it->mail_from = words[4];
        it->answers = words[10];
        make_engine(it, words, is_own);
    }
    fclose(list);
}

/* Keeps the verdict as JSON; the same every time. */
static void keep(test_case *it, mailproof_verdict *verdict)
{
    char *json;

    check(mailproof_verdict_json(verdict, it->name, &json), it->name);
    mailproof_verdict_free(verdict);
    if (it->json == NULL)
        it->json = json;
    else if (strcmp(it->json, json) != 0)
        fail(it->name, "two verdicts");
    else
        mailproof_text_free(json);
}

static void verify_at_once(test_case *it)
{
    mailproof_envelope envelope = envelope_of(it);
    mailproof_verdict *verdict;

    check(mailproof_verify(it->engine, it->message, it->length, &envelope, &verdict), it->name);
    keep(it, verdict);
}

#ifndef DRIVER_WITHOUT_THREADS
static pthread_mutex_t keeping = PTHREAD_MUTEX_INITIALIZER;

static void *verify_all(void *unused)
{
    size_t index;

    (void)unused;
    for (index = 0; index < case_count; index++) {
        test_case *it = &cases[index];
        mailproof_envelope envelope = envelope_of(it);
        mailproof_verdict *verdict;
        check(mailproof_verify(it->engine, it->message, it->length, &envelope, &verdict), it->name);
        pthread_mutex_lock(&keeping);
        keep(it, verdict);
        pthread_mutex_unlock(&keeping);
    }
    return NULL;
}

static void verify_on_threads(void)
{
    pthread_t threads[THREADS];
    size_t index;

    for (index = 0; index < THREADS; index++)
        if (pthread_create(&threads[index], NULL, verify_all, NULL) != 0)
            fail("threads", "none");
    for (index = 0; index < THREADS; index++)
        pthread_join(threads[index], NULL);
}

static int drain(test_case *it, size_t index)
{
    /* Room for one at a time, so that the descriptor has to become readable again. */
    mailproof_completion completion;
    size_t count;

    check(mailproof_queue_drain(it->queue, &completion, 1, &count), it->name);
    if (count == 1) {
        if (completion.token % CASES_MAX != index)
            fail(it->name, "another token");
        keep(it, completion.verdict);
    }
    return (int)count;
}

/* Waits by the descriptors of the queues until so many verdicts have come. */
static void drain_all(size_t open)
{
    struct pollfd descriptors[CASES_MAX];
    size_t index;

    for (index = 0; index < case_count; index++) {
        check(mailproof_queue_descriptor(cases[index].queue, &descriptors[index].fd), cases[index].name);
        descriptors[index].events = POLLIN;
    }
    while (open > 0) {
        if (poll(descriptors, (nfds_t)case_count, -1) < 0)
            fail("poll", "failed");
        for (index = 0; index < case_count; index++)
            if (descriptors[index].revents != 0)
                open -= (size_t)drain(&cases[index], index);
    }
}

/* Every message twice, all of them at once. */
static void verify_by_loop(void)
{
    size_t index, open = 0;

    for (index = 0; index < case_count; index++) {
        test_case *it = &cases[index];
        mailproof_envelope envelope = envelope_of(it);
        size_t round;
        check(mailproof_queue_new(it->engine, 2, &it->queue), it->name);
        for (round = 0; round < 2; round++, open++)
            check(mailproof_queue_submit(it->queue, it->message, it->length, &envelope, index + round * CASES_MAX),
                  it->name);
        if (mailproof_queue_submit(it->queue, it->message, it->length, &envelope, 0) != MAILPROOF_STATUS_FULL)
            fail(it->name, "takes more than it has room for");
    }
    drain_all(open);
}
#endif

/* Pushes a piece of every message in turn, each in pieces of another size. */
static void push_interleaved(void)
{
    size_t index, open;

    for (index = 0; index < case_count; index++) {
        mailproof_envelope envelope = envelope_of(&cases[index]);
        check(mailproof_session_new(cases[index].engine, &envelope, &cases[index].session), cases[index].name);
    }
    do {
        open = 0;
        for (index = case_count; index-- > 0;) {
            test_case *it = &cases[index];
            size_t piece = index * 7 % 61 + 1;
            if (piece > it->length - it->position)
                piece = it->length - it->position;
            if (piece > 0) {
                check(mailproof_session_push(it->session, it->message + it->position, piece), it->name);
                it->position += piece;
                open++;
            }
        }
    } while (open > 0);
}

static void verify_interleaved(void)
{
    size_t index;

    push_interleaved();
    for (index = case_count; index-- > 0;) {
        mailproof_verdict *verdict;
        check(mailproof_session_finish(cases[index].session, &verdict), cases[index].name);
        keep(&cases[index], verdict);
    }
}

#ifndef DRIVER_WITHOUT_THREADS
/* Messages that come in pieces, and verdicts that come through a queue. */
static void verify_queued(void)
{
    size_t index, open = case_count;

    push_interleaved();
    for (index = 0; index < case_count; index++) {
        test_case *it = &cases[index];
        check(mailproof_queue_new(it->engine, 1, &it->queue), it->name);
        check(mailproof_queue_finish(it->queue, it->session, index), it->name);
        if (mailproof_queue_finish(it->queue, it->session, index) != MAILPROOF_STATUS_WRONG_STATE)
            fail(it->name, "a message ends twice");
    }
    drain_all(open);
}
#endif

/* The octet behind the field that begins here: its line ends, but not before white space. */
static size_t field_end(const test_case *it, size_t start)
{
    size_t at;

    for (at = start; at + 1 < it->length; at++)
        if (it->message[at] == '\r' && it->message[at + 1] == '\n'
            && (at + 2 >= it->length || (it->message[at + 2] != ' ' && it->message[at + 2] != '\t')))
            return at + 2;
    return it->length;
}

/* The header field by field, the body octet by octet; one session for all messages that have the same engine. */
static void verify_by_fields(test_case *it)
{
    mailproof_envelope envelope = envelope_of(it);
    mailproof_verdict *verdict;
    size_t at = 0, end;

    check(mailproof_session_new(it->engine, &envelope, &it->session), it->name);
    check(mailproof_session_field(it->session, "To: nobody", 10), it->name);
    check(mailproof_session_restart(it->session, &envelope), it->name);
    while (at < it->length && !(it->message[at] == '\r' && at + 1 < it->length && it->message[at + 1] == '\n')) {
        end = field_end(it, at);
        check(mailproof_session_field(it->session, it->message + at, end - at), it->name);
        at = end;
    }
    if (at < it->length) {
        check(mailproof_session_end_of_fields(it->session), it->name);
        for (at += 2; at < it->length; at++)
            check(mailproof_session_push(it->session, it->message + at, 1), it->name);
    }
    check(mailproof_session_finish(it->session, &verdict), it->name);
    keep(it, verdict);
}

static size_t from_hex(const char *text, size_t length, unsigned char *octets)
{
    size_t index;

    for (index = 0; index < length / 2; index++) {
        char digits[3] = {text[2 * index], text[2 * index + 1], '\0'};
        octets[index] = (unsigned char)strtoul(digits, NULL, 16);
    }
    return length / 2;
}

static size_t read_answers(const char *path, known_answer *answers)
{
    FILE *file = fopen(path, "r");
    size_t count = 0, capacity = 1 << 20;
    char *line = (char *)room(capacity);

    if (file == NULL)
        fail(path, "can not be read");
    while (fgets(line, (int)capacity, file) != NULL) {
        char *words[6], *kept = (char *)room(strlen(line));
        if (count == ANSWERS_MAX)
            fail(path, "too many answers");
        strcpy(kept, line);
        cut(kept, words, 6);
        answers[count].name = words[0];
        answers[count].type = (unsigned)strtoul(words[1], NULL, 10);
        answers[count].outcome = (unsigned)strtoul(words[2], NULL, 10);
        answers[count].ttl = words[3] == NULL ? MAILPROOF_TTL_NONE : strtoull(words[3], NULL, 10);
        answers[count].message = words[4];
        answers[count].records = words[5];
        count++;
    }
    free(line);
    fclose(file);
    return count;
}

/* Hands in an answer: as a DNS message when there is one and the number of the question is odd, else as records. */
static void hand_in(test_case *it, uint64_t id, const known_answer *known)
{
    mailproof_answer answer;
    mailproof_record records[RECORDS_MAX];
    unsigned char *octets[RECORDS_MAX];
    const char *text = known->records;

    if (known->message != NULL && id % 2 == 1) {
        unsigned char *message = (unsigned char *)room(strlen(known->message));
        size_t length = from_hex(known->message, strlen(known->message), message);
        check(mailproof_session_answer_message(it->session, id, message, length, 0), it->name);
        free(message);
        return;
    }
    memset(&answer, 0, sizeof answer);
    answer.size = sizeof answer;
    answer.outcome = known->outcome;
    answer.ttl_seconds = known->ttl;
    answer.records = records;
    while (text != NULL && answer.record_count < RECORDS_MAX) {
        size_t length = strcspn(text, ",");
        octets[answer.record_count] = (unsigned char *)room(length);
        records[answer.record_count].octets = octets[answer.record_count];
        records[answer.record_count].length = from_hex(text, length, octets[answer.record_count]);
        answer.record_count++;
        text = text[length] == ',' ? text + length + 1 : NULL;
    }
    check(mailproof_session_answer(it->session, id, &answer), it->name);
    while (answer.record_count > 0)
        free(octets[--answer.record_count]);
}

/* Adds the questions that there are to the open ones; gives how many are open. */
static size_t collect(test_case *it, mailproof_question *open, size_t count)
{
    mailproof_status status;

    while ((status = mailproof_session_next_question(it->session, sizeof *open, &open[count])) == MAILPROOF_STATUS_OK)
        if (++count == ANSWERS_MAX)
            fail(it->name, "too many questions");
    if (status != MAILPROOF_STATUS_EMPTY)
        check(status, it->name);
    return count;
}

static void answer(test_case *it, const mailproof_question *question, const known_answer *known, size_t known_count)
{
    size_t index;

    for (index = 0; index < known_count; index++)
        if (strcmp(known[index].name, question->name) == 0 && known[index].type == question->record_type) {
            hand_in(it, question->id, &known[index]);
            return;
        }
    fail(it->name, question->name);
}

static void verify_with_own_dns(test_case *it)
{
    static known_answer known[ANSWERS_MAX];
    static mailproof_question open[ANSWERS_MAX];
    mailproof_envelope envelope = envelope_of(it);
    mailproof_progress progress = MAILPROOF_PROGRESS_NEEDS_MESSAGE;
    mailproof_verdict *verdict;
    size_t known_count = read_answers(it->answers, known), count = 0, half = it->length / 2, index;

    check(mailproof_session_new(it->engine, &envelope, &it->session), it->name);
    check(mailproof_session_push(it->session, it->message, half), it->name);
    check(mailproof_session_poll(it->session, &progress, NULL), it->name);
    count = collect(it, open, count);
    check(mailproof_session_push(it->session, it->message + half, it->length - half), it->name);
    check(mailproof_session_end(it->session), it->name);
    for (;;) {
        check(mailproof_session_poll(it->session, &progress, NULL), it->name);
        if (progress == MAILPROOF_PROGRESS_DONE)
            break;
        count = collect(it, open, count);
        if (count == 0)
            fail(it->name, "waits without a question");
        answer(it, &open[--count], known, known_count); /* the newest */
    }
    check(mailproof_session_finish(it->session, &verdict), it->name);
    keep(it, verdict);
    for (index = 0; index < known_count; index++)
        free(known[index].name);
}

static void clean_up(void)
{
    size_t index;

    for (index = 0; index < case_count; index++) {
        test_case *it = &cases[index];
        puts(it->json);
        mailproof_text_free(it->json);
        mailproof_session_free(it->session);
        mailproof_queue_free(it->queue);
        mailproof_engine_free(it->engine);
        free(it->message);
        free(it->line);
    }
}

int main(int argc, char **argv)
{
    const char *way = argc == 3 ? argv[1] : "";
    size_t index;

    if (argc != 3)
        fail("usage", "driver WAY LIST");
    read_cases(argv[2], strcmp(way, "own") == 0);
    if (strcmp(way, "stream") == 0)
        verify_interleaved();
#ifndef DRIVER_WITHOUT_THREADS
    else if (strcmp(way, "threads") == 0)
        verify_on_threads();
    else if (strcmp(way, "loop") == 0)
        verify_by_loop();
    else if (strcmp(way, "queued") == 0)
        verify_queued();
#endif
    else
        for (index = 0; index < case_count; index++) {
            if (strcmp(way, "one") == 0)
                verify_at_once(&cases[index]);
            else if (strcmp(way, "fields") == 0)
                verify_by_fields(&cases[index]);
            else if (strcmp(way, "own") == 0)
                verify_with_own_dns(&cases[index]);
            else
                fail(way, "no such way");
        }
    clean_up();
    return 0;
}

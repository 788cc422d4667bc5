/*
 * Way one: a whole message in, its verdict out.
 *
 *     verify FILE IP HELO MAIL-FROM [ZONE]
 *
 * FILE holds one message, with either kind of line ends. With ZONE the DNS comes from that file, else from the servers of
 * the system. Ends with 0 for accept, 1 for quarantine, 2 for reject, 3 for defer, 64 and up when something went wrong.
 */
#include <mailproof.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Says what went wrong and ends the program. */
static void check(mailproof_status status, const char *what)
{
    if (status != MAILPROOF_STATUS_OK) {
        fprintf(stderr, "verify: %s: %s\n", what, mailproof_last_error());
        exit(70);
    }
}

static void log_line(void *context, uint32_t level, const char *text)
{
    (void)context;
    if (level != MAILPROOF_LOG_INFO)
        fprintf(stderr, "verify: %s\n", text);
}

/* Reads a file whole. The caller frees it. */
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

static mailproof_engine *make_engine(const char *zone_path)
{
    mailproof_engine_options options;
    mailproof_engine *engine;
    mailproof_zone *zone = NULL;

    check(mailproof_engine_options_init(sizeof options, &options), "options");
    options.authserv_id = "mx.example.net";
    options.log = log_line;
    if (zone_path != NULL) {
        check(mailproof_zone_new(&zone), "zone");
        check(mailproof_zone_add_file(zone, zone_path), "zone");
        options.dns = MAILPROOF_DNS_ZONE;
        options.zone = zone;
    }
    check(mailproof_engine_new(&options, &engine), "engine");
    mailproof_zone_free(zone); /* The engine has a copy. */
    return engine;
}

/* Some of what a verdict knows; every text belongs to it. */
static void print_verdict(const mailproof_verdict *verdict)
{
    mailproof_spf spf;
    mailproof_dkim dkim;
    mailproof_dmarc dmarc;
    const char *results;
    size_t count, index;

    check(mailproof_verdict_spf(verdict, sizeof spf, &spf), "SPF");
    printf("SPF    %-9s %s\n", spf.word, spf.domain != NULL ? spf.domain : "-");
    check(mailproof_verdict_dkim_count(verdict, &count), "DKIM");
    for (index = 0; index < count; index++) {
        check(mailproof_verdict_dkim(verdict, index, sizeof dkim, &dkim), "DKIM");
        printf("DKIM   %-9s %s", dkim.word, dkim.domain != NULL ? dkim.domain : "-");
        if (dkim.problem_text != NULL)
            printf(" (%s)", dkim.problem_text);
        putchar('\n');
    }
    check(mailproof_verdict_dmarc(verdict, sizeof dmarc, &dmarc), "DMARC");
    printf("DMARC  %-9s %s\n", dmarc.word, dmarc.from_domain != NULL ? dmarc.from_domain : "-");
    check(mailproof_verdict_authentication_results(verdict, &results), "results");
    printf("Authentication-Results: %s\n", results);
}

int main(int argc, char **argv)
{
    mailproof_engine *engine;
    mailproof_envelope envelope;
    mailproof_verdict *verdict;
    mailproof_action action;
    char *message;
    size_t length;

    if (argc < 5 || argc > 6) {
        fprintf(stderr, "usage: verify FILE IP HELO MAIL-FROM [ZONE]\n");
        return 64;
    }
    message = read_file(argv[1], &length);
    engine = make_engine(argc == 6 ? argv[5] : NULL);

    memset(&envelope, 0, sizeof envelope);
    envelope.size = sizeof envelope;
    envelope.ip = argv[2];
    envelope.helo = argv[3];
    envelope.mail_from = argv[4];
    envelope.flags = MAILPROOF_LINE_ENDS_LF;

    check(mailproof_verify(engine, message, length, &envelope, &verdict), "message");
    print_verdict(verdict);
    check(mailproof_verdict_action(verdict, &action), "action");

    mailproof_verdict_free(verdict);
    mailproof_engine_free(engine);
    free(message);
    return (int)action;
}

/*
 * libopendkim, libspf2 and libopendmarc, asked over standard input: lines `COUNT ADDRESS FILE`, answered by
 * `SPF DKIM DMARC NANOSECONDS`. The argument is the file of what is in the DNS. Like the daemons around these libraries
 * it keeps what may be kept between messages: the handles, the zone, the public suffix list.
 */
#define _GNU_SOURCE
#include <sys/types.h>
#include <arpa/nameser.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <opendkim/dkim.h>
#include <opendmarc/dmarc.h>
#include <spf2/spf.h>
#include <spf2/spf_dns_zone.h>

struct text {
    char *name;
    char *data;
};

struct results {
    const char *spf;
    const char *dkim;
    const char *dmarc;
};

static struct text texts[64];
static size_t text_count;
static char *helo, *mail_from;
static DKIM_LIB *dkim_library;
static SPF_server_t *spf_server;
static char field[1024];

static void fail(const char *what)
{
    printf("%s\n", what);
    exit(0);
}

static const char *look_up(const char *name)
{
    for (size_t at = 0; at < text_count; at++)
        if (strcasecmp(texts[at].name, name) == 0)
            return texts[at].data;
    return NULL;
}

static DKIM_CBSTAT look_up_key(DKIM *dkim, DKIM_SIGINFO *signature, unsigned char *key, size_t room)
{
    (void)dkim;
    char name[512];
    snprintf(name, sizeof name, "%s._domainkey.%s", dkim_sig_getselector(signature), dkim_sig_getdomain(signature));
    const char *data = look_up(name);
    if (data == NULL)
        return DKIM_CBSTAT_NOTFOUND;
    return (size_t)snprintf((char *)key, room, "%s", data) < room ? DKIM_CBSTAT_CONTINUE : DKIM_CBSTAT_ERROR;
}

/* Lines `helo NAME`, `mail_from ADDRESS`, `txt NAME TEXT`. */
static void read_world(const char *path)
{
    FILE *file = fopen(path, "r");
    if (file == NULL)
        fail("no file of the DNS");
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, file) > 0) {
        line[strcspn(line, "\n")] = '\0';
        char *rest = line, *word = strsep(&rest, " ");
        if (rest == NULL)
            continue;
        if (strcmp(word, "helo") == 0)
            helo = strdup(rest);
        else if (strcmp(word, "mail_from") == 0)
            mail_from = strdup(rest);
        else if (strcmp(word, "txt") == 0 && text_count < sizeof texts / sizeof *texts) {
            char *name = strsep(&rest, " ");
            texts[text_count++] = (struct text){strdup(name), strdup(rest == NULL ? "" : rest)};
        }
    }
    free(line);
    fclose(file);
    if (helo == NULL || mail_from == NULL)
        fail("the file of the DNS is not whole");
}

static void start(void)
{
    static OPENDMARC_LIB_T dmarc_library = {.tld_type = OPENDMARC_TLD_TYPE_MOZILLA, .tld_source_file = SUFFIXES};
    dkim_library = dkim_init(NULL, NULL);
    if (dkim_library == NULL || dkim_set_key_lookup(dkim_library, look_up_key) != DKIM_STAT_OK)
        fail("libopendkim does not start");
    SPF_dns_server_t *zone = SPF_dns_zone_new(NULL, "zone", 0);
    if (opendmarc_policy_library_init(&dmarc_library) != DMARC_PARSE_OKAY)
        fail("libopendmarc does not start: no public suffix list");
    for (size_t at = 0; at < text_count; at++) {
        SPF_dns_zone_add_str(zone, texts[at].name, ns_t_txt, NETDB_SUCCESS, texts[at].data);
        opendmarc_dns_fake_record(texts[at].name, texts[at].data);
    }
    spf_server = SPF_server_new_dns(zone, 0);
    if (spf_server == NULL)
        fail("libspf2 does not start");
    SPF_server_set_rec_dom(spf_server, "mx.example.net");
}

static SPF_result_t judge_spf(const char *ip)
{
    SPF_request_t *request = SPF_request_new(spf_server);
    SPF_response_t *response = NULL;
    SPF_request_set_ipv4_str(request, ip);
    SPF_request_set_helo_dom(request, helo);
    SPF_request_set_env_from(request, mail_from);
    SPF_request_query_mailfrom(request, &response);
    SPF_result_t result = response == NULL ? SPF_RESULT_TEMPERROR : SPF_response_result(response);
    if (response != NULL)
        SPF_response_free(response);
    SPF_request_free(request);
    return result;
}

/* Hands the message over as a milter does: field by field, then the body. `from` gets the domain of its author. */
static bool judge_dkim(unsigned char *message, size_t length, char from[256], DKIM **handle)
{
    DKIM_STAT status;
    DKIM *dkim = *handle = dkim_verify(dkim_library, (const unsigned char *)"message", NULL, &status);
    unsigned char *at = message, *end = message + length;
    while (at < end && *at != '\r') {
        unsigned char *next = at;
        do {
            next = memchr(next, '\n', (size_t)(end - next));
            next = next == NULL ? end : next + 1;
        } while (next < end && (*next == ' ' || *next == '\t'));
        size_t size = (size_t)(next - at) - 2;
        if (dkim_header(dkim, at, size) != DKIM_STAT_OK)
            return false;
        if (strncasecmp((char *)at, "From:", 5) == 0) {
            char value[1024];
            unsigned char *user, *domain;
            snprintf(value, sizeof value, "%.*s", (int)size - 5, (char *)at + 5);
            if (dkim_mail_parse((unsigned char *)value, &user, &domain) == 0 && domain != NULL)
                snprintf(from, 256, "%s", domain);
        }
        at = next;
    }
    at += at < end ? 2 : 0;
    if (dkim_eoh(dkim) != DKIM_STAT_OK)
        return false;
    if (at < end && dkim_body(dkim, at, (size_t)(end - at)) != DKIM_STAT_OK)
        return false;
    return dkim_eom(dkim, NULL) == DKIM_STAT_OK;
}

static struct results judge(const char *ip, unsigned char *message, size_t length)
{
    char from[256] = "";
    DKIM *dkim = NULL;
    bool sender_holds = judge_spf(ip) == SPF_RESULT_PASS;
    bool signature_holds = judge_dkim(message, length, from, &dkim);
    DKIM_SIGINFO *signature = dkim_getsignature(dkim);
    const char *signer = signature == NULL ? "" : (const char *)dkim_sig_getdomain(signature);
    const char *sender = strrchr(mail_from, '@');
    sender = sender == NULL ? mail_from : sender + 1;

    DMARC_POLICY_T *policy = opendmarc_policy_connect_init((u_char *)ip, DMARC_POLICY_IP_TYPE_IPV4);
    opendmarc_policy_store_from_domain(policy, (u_char *)from);
    opendmarc_policy_store_spf(policy, (u_char *)sender,
        sender_holds ? DMARC_POLICY_SPF_OUTCOME_PASS : DMARC_POLICY_SPF_OUTCOME_FAIL,
        DMARC_POLICY_SPF_ORIGIN_MAILFROM, NULL);
    if (signature != NULL)
        opendmarc_policy_store_dkim(policy, (u_char *)signer, dkim_sig_getselector(signature),
            signature_holds ? DMARC_POLICY_DKIM_OUTCOME_PASS : DMARC_POLICY_DKIM_OUTCOME_FAIL, NULL);
    bool record_found = opendmarc_policy_query_dmarc(policy, (u_char *)from) == DMARC_PARSE_OKAY;
    bool aligned = record_found && opendmarc_get_policy_to_enforce(policy) == DMARC_POLICY_PASS;

    struct results results = {sender_holds ? "pass" : "fail", signature_holds ? "pass" : "fail", aligned ? "pass" : "fail"};
    snprintf(field, sizeof field,
        "mx.example.net; spf=%s smtp.mailfrom=%s; dkim=%s header.d=%s; dmarc=%s header.from=%s", results.spf, mail_from,
        results.dkim, signer, results.dmarc, from);
    opendmarc_policy_connect_shutdown(policy);
    dkim_free(dkim);
    return results;
}

static unsigned char *read_file(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        exit(66);
    fseek(file, 0, SEEK_END);
    *length = (size_t)ftell(file);
    rewind(file);
    unsigned char *octets = malloc(*length + 1);
    if (octets == NULL || fread(octets, 1, *length, file) != *length)
        exit(74);
    fclose(file);
    return octets;
}

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int main(int count, char **arguments)
{
    if (count != 2)
        fail("it wants the file of the DNS");
    read_world(arguments[1]);
    start();
    puts("ready");
    fflush(stdout);
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0) {
        line[strcspn(line, "\n")] = '\0';
        char *path = line;
        long rounds = strtol(strsep(&path, " "), NULL, 10);
        const char *ip = strsep(&path, " ");
        if (path == NULL)
            exit(65);
        size_t length;
        unsigned char *message = read_file(path, &length);
        struct results results = {"-", "-", "-"};
        long long started = now();
        for (long round = 0; round < rounds; round++)
            results = judge(ip, message, length);
        long long took = now() - started;
        printf("%s %s %s %lld\n", results.spf, results.dkim, results.dmarc, took);
        fflush(stdout);
        free(message);
    }
    free(line);
    return 0;
}

/*
 * What the header promises beside verdicts, each promise a function.
 *
 *     promises FOLDER
 *
 * FOLDER is for files that it writes.
 */
#define _DEFAULT_SOURCE 1

#include <mailproof.h>

#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char zone_text[] =
    "example.org: [{TXT: 'v=spf1 ip4:192.0.2.7 exp=why.example.org -all'}]\n"
    "why.example.org: [{TXT: 'not %{i}'}]\n"
    "_dmarc.example.org: [{TXT: 'v=DMARC1; p=reject'}]\n";

static const char message[] = "From: Ann <ann@example.org>\r\nSubject: one\r\n\r\nText.\r\n";

static const char unix_message[] = "From: Ann <ann@example.org>\nSubject: one\n\nText.\n";

/* A seed of 32 octets in base64. */
static const char ed25519_key[] = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

#define EXPECT(condition)                                                                       \
    do {                                                                                        \
        if (!(condition)) {                                                                     \
            fprintf(stderr, "promises: line %d: %s; %s\n", __LINE__, #condition, mailproof_last_error()); \
            exit(1);                                                                            \
        }                                                                                       \
    } while (0)
#define OK(call) EXPECT((call) == MAILPROOF_STATUS_OK)
#define GIVES(status, call) EXPECT((call) == MAILPROOF_STATUS_##status)

static char log_text[1024];
static int log_count;

static void take_log(void *context, uint32_t level, const char *text)
{
    EXPECT(context == log_text);
    EXPECT(level >= MAILPROOF_LOG_ERROR && level <= MAILPROOF_LOG_INFO);
    snprintf(log_text, sizeof log_text, "%s", text);
    log_count++;
}

static mailproof_engine_options plain_options(void)
{
    mailproof_engine_options options;

    OK(mailproof_engine_options_init(sizeof options, &options));
    options.authserv_id = "mx.example.net";
    options.dns = MAILPROOF_DNS_CALLER;
    return options;
}

static mailproof_engine *engine_over_zone(void)
{
    mailproof_engine_options options = plain_options();
    mailproof_engine *engine;
    mailproof_zone *zone;

    OK(mailproof_zone_new(&zone));
    OK(mailproof_zone_add_text(zone, zone_text, sizeof zone_text - 1, MAILPROOF_ZONE_YAML));
    options.dns = MAILPROOF_DNS_ZONE;
    options.zone = zone;
    OK(mailproof_engine_new(&options, &engine));
    mailproof_zone_free(zone);
    return engine;
}

static mailproof_envelope plain_envelope(void)
{
    mailproof_envelope envelope;

    memset(&envelope, 0, sizeof envelope);
    envelope.size = sizeof envelope;
    envelope.ip = "192.0.2.7";
    envelope.helo = "mx.example.org";
    envelope.mail_from = "ann@example.org";
    return envelope;
}

static mailproof_verdict *verdict_of(mailproof_engine *engine, const void *octets, size_t length,
                                     const mailproof_envelope *envelope)
{
    mailproof_verdict *verdict;

    OK(mailproof_verify(engine, octets, length, envelope, &verdict));
    return verdict;
}

static void library_says_what_it_is(void)
{
    EXPECT(strchr(mailproof_version(), '.') != NULL);
    EXPECT((mailproof_features() & MAILPROOF_FEATURE_NETWORK) != 0);
    EXPECT(strcmp(mailproof_status_text(MAILPROOF_STATUS_OK), "done") == 0);
    EXPECT(strcmp(mailproof_status_text(0xffffffffu), "an unknown status") == 0);
    EXPECT(strcmp(mailproof_last_error(), "") == 0);
}

static void options_that_can_not_be_are_refused(void)
{
    mailproof_engine_options options = plain_options();
    mailproof_engine *engine = NULL;
    const char *servers[] = {"nonsense"}, *none[] = {NULL};

    GIVES(NULL_POINTER, mailproof_engine_new(NULL, &engine));
    GIVES(NULL_POINTER, mailproof_engine_new(&options, NULL));
    GIVES(BAD_SIZE, mailproof_engine_options_init(7, &options));
    options.size = 0;
    GIVES(BAD_SIZE, mailproof_engine_new(&options, &engine));
    options = plain_options();
    options.flags = 1u << 30;
    GIVES(BAD_OPTION, mailproof_engine_new(&options, &engine));
    options = plain_options();
    options.policy = 1;
    GIVES(BAD_OPTION, mailproof_engine_new(&options, &engine));
    options = plain_options();
    options.dns = 99;
    GIVES(BAD_OPTION, mailproof_engine_new(&options, &engine));
    options = plain_options();
    options.authserv_id = "\xff";
    GIVES(BAD_TEXT, mailproof_engine_new(&options, &engine));
    options = plain_options();
    options.dns = MAILPROOF_DNS_ZONE;
    GIVES(NULL_POINTER, mailproof_engine_new(&options, &engine));
    options.dns = MAILPROOF_DNS_SERVERS;
    GIVES(NO_RESOLVER, mailproof_engine_new(&options, &engine));
    options.servers = servers;
    options.server_count = 1;
    GIVES(BAD_SERVER, mailproof_engine_new(&options, &engine));
    EXPECT(strstr(mailproof_last_error(), "nonsense") != NULL);
    options.servers = none;
    GIVES(NULL_POINTER, mailproof_engine_new(&options, &engine));
    servers[0] = "127.0.0.1";
    options.servers = servers;
    options.backend = 9;
    GIVES(BAD_OPTION, mailproof_engine_new(&options, &engine));
    options.backend = MAILPROOF_BACKEND_AUTO;
    options.threads = 1025;
    GIVES(BAD_OPTION, mailproof_engine_new(&options, &engine));
    options.threads = 1;
    options.dns = MAILPROOF_DNS_SYSTEM;
    GIVES(BAD_OPTION, mailproof_engine_new(&options, &engine));
    EXPECT(strstr(mailproof_last_error(), "MAILPROOF_DNS_SERVERS") != NULL);
    options.servers = NULL;
    options.server_count = 0;
    options.zone = (const mailproof_zone *)log_text; /* Not looked at. */
    GIVES(BAD_OPTION, mailproof_engine_new(&options, &engine));
    EXPECT(engine == NULL);
}

static void zones_name_the_line_at_fault(void)
{
    static const char master[] = "a.example. TXT \"v=spf1 -all\"\nb.example. A nonsense\n";
    mailproof_zone *zone;

    OK(mailproof_zone_new(&zone));
    GIVES(BAD_ZONE, mailproof_zone_add_text(zone, master, sizeof master - 1, MAILPROOF_ZONE_MASTER));
    EXPECT(strstr(mailproof_last_error(), "line ") != NULL);
    OK(mailproof_zone_add_text(zone, master, 29, MAILPROOF_ZONE_MASTER));
    GIVES(BAD_OPTION, mailproof_zone_add_text(zone, master, 29, 2));
    GIVES(BAD_TEXT, mailproof_zone_add_text(zone, "\xff", 1, MAILPROOF_ZONE_YAML));
    GIVES(BAD_ZONE, mailproof_zone_add_file(zone, "/nowhere"));
    GIVES(NULL_POINTER, mailproof_zone_add_file(zone, NULL));
    GIVES(NULL_POINTER, mailproof_zone_add_text(zone, NULL, 1, MAILPROOF_ZONE_YAML));
    GIVES(NULL_POINTER, mailproof_zone_add_text(NULL, "", 0, MAILPROOF_ZONE_YAML));
    mailproof_zone_free(zone);
    mailproof_zone_free(NULL);
}

static void envelopes_are_read(void)
{
    mailproof_engine *engine = engine_over_zone();
    mailproof_envelope envelope = plain_envelope();
    mailproof_verdict *verdict;
    mailproof_client client;
    mailproof_spf spf;
    const unsigned char octets[] = {192, 0, 2, 8};

    envelope.ip_octets = octets;
    envelope.ip_length = sizeof octets;
    verdict = verdict_of(engine, message, sizeof message - 1, &envelope);
    OK(mailproof_verdict_client(verdict, sizeof client, &client));
    EXPECT(strcmp(client.ip, "192.0.2.8") == 0 && client.null_reverse_path == 0);
    OK(mailproof_verdict_spf(verdict, sizeof spf, &spf));
    EXPECT(spf.result == MAILPROOF_SPF_RESULT_FAIL && strcmp(spf.explanation, "not 192.0.2.8") == 0);
    EXPECT(strcmp(spf.mechanism, "-all") == 0 && spf.problem == NULL && spf.lookup_count == 0);
    mailproof_verdict_free(verdict);

    memset(&envelope, 0, sizeof envelope);
    envelope.size = sizeof envelope;
    verdict = verdict_of(engine, NULL, 0, &envelope);
    OK(mailproof_verdict_client(verdict, sizeof client, &client));
    EXPECT(client.ip == NULL && client.null_reverse_path == 1);
    mailproof_verdict_free(verdict);

    verdict = NULL;
    envelope.ip = "somewhere";
    GIVES(BAD_ADDRESS, mailproof_verify(engine, message, 1, &envelope, &verdict));
    envelope = plain_envelope();
    envelope.flags = 2;
    GIVES(BAD_OPTION, mailproof_verify(engine, message, 1, &envelope, &verdict));
    envelope.size = 8;
    GIVES(BAD_SIZE, mailproof_verify(engine, message, 1, &envelope, &verdict));
    envelope = plain_envelope();
    GIVES(NULL_POINTER, mailproof_verify(engine, NULL, 1, &envelope, &verdict));
    GIVES(BAD_TEXT, mailproof_verify(engine, message, (size_t)-1, &envelope, &verdict));
    GIVES(NULL_POINTER, mailproof_verify(engine, message, 1, NULL, &verdict));
    GIVES(NULL_POINTER, mailproof_verify(NULL, message, 1, &envelope, &verdict));
    GIVES(NULL_POINTER, mailproof_verify(engine, message, 1, &envelope, NULL));
    EXPECT(verdict == NULL);
    mailproof_engine_free(engine);
    mailproof_engine_free(NULL);
}

/* The accessors have every field. */
static void verdicts_are_read(void)
{
    static const char several[] = "From: a@example.org, b@example.com\r\nbad line\r\n\r\n\n\r";
    mailproof_engine *engine = engine_over_zone();
    mailproof_envelope envelope = plain_envelope();
    mailproof_verdict *verdict = verdict_of(engine, message, sizeof message - 1, &envelope);
    mailproof_spf helo;
    mailproof_dkim dkim;
    mailproof_arc arc;
    mailproof_arc_sealer sealer;
    mailproof_dmarc dmarc;
    mailproof_author author;
    mailproof_defects defects;
    mailproof_action action;
    const char *text, *again;
    char *json;
    size_t count;

    OK(mailproof_verdict_action(verdict, &action));
    EXPECT(action == MAILPROOF_ACTION_ACCEPT);
    OK(mailproof_verdict_helo(verdict, sizeof helo, &helo));
    EXPECT(helo.result == MAILPROOF_SPF_RESULT_NONE && strcmp(helo.problem, "no-such-domain") == 0);
    EXPECT(strcmp(helo.word, "none") == 0 && helo.problem_text != NULL && helo.explanation == NULL);
    OK(mailproof_verdict_dkim_count(verdict, &count));
    EXPECT(count == 0);
    GIVES(OUT_OF_RANGE, mailproof_verdict_dkim(verdict, 0, sizeof dkim, &dkim));
    OK(mailproof_verdict_arc(verdict, sizeof arc, &arc));
    EXPECT(arc.result == MAILPROOF_ARC_RESULT_NONE && arc.sealer_count == 0 && arc.oldest_pass == -1);
    GIVES(OUT_OF_RANGE, mailproof_verdict_arc_sealer(verdict, 0, sizeof sealer, &sealer));
    OK(mailproof_verdict_dmarc(verdict, sizeof dmarc, &dmarc));
    EXPECT(dmarc.result == MAILPROOF_DMARC_RESULT_PASS && dmarc.policy == MAILPROOF_POLICY_REJECT);
    EXPECT(dmarc.applies == MAILPROOF_POLICY_TAG_P && dmarc.disposition == MAILPROOF_POLICY_NONE);
    EXPECT(dmarc.spf_aligned == MAILPROOF_ALIGNMENT_STRICT && dmarc.dkim_aligned == MAILPROOF_ALIGNMENT_ABSENT);
    EXPECT(dmarc.discovery == MAILPROOF_DISCOVERY_TREE_WALK && dmarc.testing == 0 && dmarc.problem == NULL);
    EXPECT(strcmp(dmarc.from_domain, "example.org") == 0 && strcmp(dmarc.policy_domain, "example.org") == 0);
    OK(mailproof_verdict_author(verdict, sizeof author, &author));
    EXPECT(author.kind == MAILPROOF_AUTHOR_KIND_ONE && author.domain_count == 1);
    OK(mailproof_verdict_authentication_results(verdict, &text));
    EXPECT(strncmp(text, "mx.example.net; spf=pass", 24) == 0);
    OK(mailproof_verdict_authentication_results(verdict, &again));
    EXPECT(text == again);
    OK(mailproof_verdict_json(verdict, "a\"b", &json));
    EXPECT(strncmp(json, "{\"v\":1,\"id\":\"a\\\"b\",", 19) == 0);
    mailproof_text_free(json);
    mailproof_text_free(NULL);
    GIVES(BAD_SIZE, mailproof_verdict_dmarc(verdict, 1, &dmarc));
    GIVES(NULL_POINTER, mailproof_verdict_dmarc(verdict, sizeof dmarc, NULL));
    GIVES(NULL_POINTER, mailproof_verdict_dmarc(NULL, sizeof dmarc, &dmarc));
    mailproof_verdict_free(verdict);

    verdict = verdict_of(engine, several, sizeof several - 1, &envelope);
    OK(mailproof_verdict_author(verdict, sizeof author, &author));
    EXPECT(author.kind == MAILPROOF_AUTHOR_KIND_SEVERAL && author.domain_count == 2 && author.problem == NULL);
    OK(mailproof_verdict_author_domain(verdict, 1, &text));
    EXPECT(strcmp(text, "example.com") == 0);
    GIVES(OUT_OF_RANGE, mailproof_verdict_author_domain(verdict, 2, &text));
    OK(mailproof_verdict_defects(verdict, sizeof defects, &defects));
    EXPECT(defects.bare_lf == 1 && defects.bare_cr == 1 && defects.garbage_lines == 1 && defects.nul == 0);
    mailproof_verdict_free(verdict);
    mailproof_verdict_free(NULL);
    mailproof_engine_free(engine);
}

/* A signature of ours verifies, by an engine that was told of the key. */
static void what_is_signed_verifies(void)
{
    mailproof_engine_options engine_options = plain_options();
    mailproof_signer_options options;
    mailproof_signer *signer, *unix_signer;
    mailproof_engine *engine;
    mailproof_envelope envelope = plain_envelope();
    mailproof_verdict *verdict;
    mailproof_answer answer;
    mailproof_record octets;
    mailproof_dkim dkim;
    const char *names[] = {"Subject"};
    char *field, *record, signed_message[2048];

    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.domain = "example.org";
    options.selector = "s1";
    options.now_seconds = 1795392000;
    options.expire_seconds = 60;
    GIVES(BAD_KEY, mailproof_signer_new("nonsense", 8, &options, &signer));
    options.domain = "org";
    GIVES(BAD_NAME, mailproof_signer_new(ed25519_key, sizeof ed25519_key - 1, &options, &signer));
    options.domain = "example.org";
    options.names = names;
    options.name_count = 1;
    GIVES(BAD_OPTION, mailproof_signer_new(ed25519_key, sizeof ed25519_key - 1, &options, &signer));
    options.names = NULL;
    options.name_count = 0;
    options.selector = NULL;
    GIVES(NULL_POINTER, mailproof_signer_new(ed25519_key, sizeof ed25519_key - 1, &options, &signer));
    options.selector = "a b";
    GIVES(BAD_OPTION, mailproof_signer_new(ed25519_key, sizeof ed25519_key - 1, &options, &signer));
    options.selector = "s1";
    options.identity = "@example.net";
    GIVES(BAD_OPTION, mailproof_signer_new(ed25519_key, sizeof ed25519_key - 1, &options, &signer));
    options.identity = NULL;
    options.flags = 8;
    GIVES(BAD_OPTION, mailproof_signer_new(ed25519_key, sizeof ed25519_key - 1, &options, &signer));
    options.flags = MAILPROOF_SIGN_LINE_ENDS_LF;
    OK(mailproof_signer_new(ed25519_key, sizeof ed25519_key - 1, &options, &unix_signer));
    options.flags = 0;
    OK(mailproof_signer_new(ed25519_key, sizeof ed25519_key - 1, &options, &signer));
    GIVES(NOT_SIGNED, mailproof_signer_sign(signer, unix_message, sizeof unix_message - 1, &field));
    GIVES(NOT_SIGNED, mailproof_signer_sign(signer, "To: x\r\n\r\n", 9, &field));
    OK(mailproof_signer_sign(signer, message, sizeof message - 1, &field));
    OK(mailproof_signer_record(signer, &record));
    EXPECT(strncmp(field, "DKIM-Signature: v=1; a=ed25519-sha256;", 38) == 0);
    EXPECT(strncmp(record, "v=DKIM1; k=ed25519; p=", 22) == 0);
    EXPECT(snprintf(signed_message, sizeof signed_message, "%s%s", field, message) < (int)sizeof signed_message);

    engine_options.now_seconds = 1795392030;
    OK(mailproof_engine_new(&engine_options, &engine));
    memset(&answer, 0, sizeof answer);
    octets.octets = record;
    octets.length = strlen(record);
    answer.size = sizeof answer;
    answer.outcome = MAILPROOF_ANSWER_RECORDS;
    answer.form = MAILPROOF_RECORDS_TEXT;
    answer.records = &octets;
    answer.record_count = 1;
    answer.ttl_seconds = 300;
    OK(mailproof_engine_remember(engine, "s1._domainkey.example.org", 16, &answer));
    GIVES(BAD_OPTION, mailproof_engine_remember(engine, "s1._domainkey.example.org", 2, &answer));
    GIVES(BAD_NAME, mailproof_engine_remember(engine, "a..b", 16, &answer));
    verdict = verdict_of(engine, signed_message, strlen(signed_message), &envelope);
    OK(mailproof_verdict_dkim(verdict, 0, sizeof dkim, &dkim));
    EXPECT(dkim.result == MAILPROOF_DKIM_RESULT_PASS && dkim.problem == NULL && dkim.header_holds == 1);
    EXPECT(strcmp(dkim.selector, "s1") == 0 && strcmp(dkim.identity, "@example.org") == 0);
    EXPECT(dkim.signed_at == 1795392000 && dkim.expires_at == 1795392060 && dkim.key_bits == 256);
    EXPECT(dkim.body_covered == 7 && dkim.body_total == 7);
    mailproof_verdict_free(verdict);
    mailproof_text_free(field);

    /* The field fits the message that it was made for, line ends included. */
    OK(mailproof_signer_sign(unix_signer, unix_message, sizeof unix_message - 1, &field));
    EXPECT(strchr(field, '\r') == NULL && field[strlen(field) - 1] == '\n');
    EXPECT(snprintf(signed_message, sizeof signed_message, "%s%s", field, unix_message) < (int)sizeof signed_message);
    envelope.flags = MAILPROOF_LINE_ENDS_LF;
    verdict = verdict_of(engine, signed_message, strlen(signed_message), &envelope);
    OK(mailproof_verdict_dkim(verdict, 0, sizeof dkim, &dkim));
    EXPECT(dkim.result == MAILPROOF_DKIM_RESULT_PASS);
    mailproof_verdict_free(verdict);
    mailproof_signer_free(unix_signer);
    mailproof_engine_free(engine);
    mailproof_text_free(field);
    mailproof_text_free(record);
    mailproof_signer_free(signer);
    mailproof_signer_free(NULL);
}

static void cache_is_counted_purged_written_and_read(const char *folder)
{
    mailproof_engine_options options = plain_options();
    mailproof_engine *engine, *other;
    mailproof_cache_statistics statistics;
    mailproof_cache_loaded loaded;
    mailproof_network_statistics network;
    mailproof_answer answer;
    struct stat file;
    char path[1024], new_path[1032];
    uint64_t written;
    size_t purged;

    snprintf(path, sizeof path, "%s/cache", folder);
    OK(mailproof_engine_new(&options, &engine));
    memset(&answer, 0, sizeof answer);
    answer.size = sizeof answer;
    answer.outcome = MAILPROOF_ANSWER_NO_SUCH_NAME;
    answer.ttl_seconds = 300;
    OK(mailproof_engine_remember(engine, "gone.example", 16, &answer));
    OK(mailproof_engine_cache_statistics(engine, sizeof statistics, &statistics));
    EXPECT(statistics.inserts == 1 && statistics.entries == 1 && statistics.bytes > 0);
    OK(mailproof_engine_network_statistics(engine, sizeof network, &network));
    EXPECT(network.lookups == 0 && network.udp_queries == 0);
    OK(mailproof_engine_dump_cache(engine, path, &written));
    EXPECT(written == 1);
    EXPECT(stat(path, &file) == 0 && (file.st_mode & 0777) == 0600);
    /* A dump that can not be written leaves the one before. */
    snprintf(new_path, sizeof new_path, "%s.new", path);
    EXPECT(mkdir(new_path, 0700) == 0);
    GIVES(FILE, mailproof_engine_dump_cache(engine, path, NULL));
    EXPECT(rmdir(new_path) == 0 && stat(path, &file) == 0 && file.st_size > 0);
    OK(mailproof_engine_new(&options, &other));
    GIVES(BAD_SIZE, mailproof_engine_load_cache(other, path, 1, &loaded));
    OK(mailproof_engine_cache_statistics(other, sizeof statistics, &statistics));
    EXPECT(statistics.entries == 0);
    OK(mailproof_engine_load_cache(other, path, sizeof loaded, &loaded));
    EXPECT(loaded.kept == 1 && loaded.bad == 0 && loaded.is_cut == 0);
    OK(mailproof_engine_load_cache(other, path, 0, NULL));
    GIVES(FILE, mailproof_engine_load_cache(other, "/nowhere", sizeof loaded, &loaded));
    GIVES(BAD_DUMP, mailproof_engine_load_cache(other, "/dev/null", sizeof loaded, &loaded));
    GIVES(FILE, mailproof_engine_dump_cache(other, "/nowhere/cache", NULL));
    OK(mailproof_engine_purge(other, "gone.example", &purged));
    EXPECT(purged == 1);
    OK(mailproof_engine_purge(other, "gone.example", NULL));
    mailproof_engine_free(other);
    mailproof_engine_free(engine);
    remove(path);
}

static void sessions_keep_their_order(void)
{
    mailproof_engine *engine = engine_over_zone();
    mailproof_envelope envelope = plain_envelope();
    mailproof_session *session;
    mailproof_verdict *verdict, *other = NULL;
    mailproof_progress progress;
    mailproof_question question;
    mailproof_spf_result spf;
    bool wants = false;

    OK(mailproof_session_new(engine, &envelope, &session));
    OK(mailproof_session_spf(session, &spf));
    EXPECT(spf == MAILPROOF_SPF_RESULT_PASS);
    OK(mailproof_session_wants_body(session, &wants));
    EXPECT(wants);
    GIVES(BAD_TEXT, mailproof_session_field(session, "\r\n", 2));
    OK(mailproof_session_field(session, "From: ann@example.org", 21));
    GIVES(WRONG_STATE, mailproof_session_push(session, "x", 1));
    OK(mailproof_session_end_of_fields(session));
    GIVES(WRONG_STATE, mailproof_session_end_of_fields(session));
    GIVES(WRONG_STATE, mailproof_session_field(session, "To: x", 5));
    OK(mailproof_session_wants_body(session, &wants));
    EXPECT(!wants);
    OK(mailproof_session_push(session, "x", 1));
    OK(mailproof_session_poll(session, &progress, NULL));
    EXPECT(progress == MAILPROOF_PROGRESS_NEEDS_MESSAGE);
    GIVES(WRONG_STATE, mailproof_session_next_question(session, sizeof question, &question));
    OK(mailproof_session_end(session));
    GIVES(WRONG_STATE, mailproof_session_end(session));
    GIVES(WRONG_STATE, mailproof_session_push(session, "x", 1));
    OK(mailproof_session_poll(session, &progress, NULL));
    EXPECT(progress == MAILPROOF_PROGRESS_DONE);
    GIVES(NULL_POINTER, mailproof_session_finish(session, NULL));
    OK(mailproof_session_finish(session, &verdict));
    GIVES(WRONG_STATE, mailproof_session_finish(session, &other));
    GIVES(WRONG_STATE, mailproof_session_poll(session, &progress, NULL));
    GIVES(WRONG_STATE, mailproof_session_give_up(session));
    EXPECT(other == NULL);
    mailproof_engine_free(engine);
    OK(mailproof_session_restart(session, &envelope));
    OK(mailproof_session_push(session, message, sizeof message - 1));
    GIVES(WRONG_STATE, mailproof_session_field(session, "To: x", 5));
    OK(mailproof_session_finish(session, &other));
    mailproof_verdict_free(verdict);
    mailproof_session_free(session);
    mailproof_verdict_free(other); /* outlives what it came from */
    mailproof_session_free(NULL);
}

/* Way four: what is asked, what may be answered, and what is late. */
static void questions_are_the_callers(void)
{
    mailproof_engine_options options = plain_options();
    mailproof_engine *engine;
    mailproof_envelope envelope = plain_envelope();
    mailproof_session *session;
    mailproof_verdict *verdict;
    mailproof_question question;
    mailproof_answer answer;
    mailproof_record record;
    mailproof_progress progress;
    mailproof_dmarc dmarc;
    mailproof_spf_result spf;
    uint64_t wait_ms, late;
    int count = 0;

    OK(mailproof_engine_new(&options, &engine));
    OK(mailproof_session_new(engine, &envelope, &session));
    GIVES(EMPTY, mailproof_session_next_question(session, sizeof question, &question));
    OK(mailproof_session_poll(session, &progress, &wait_ms));
    EXPECT(progress == MAILPROOF_PROGRESS_NEEDS_MESSAGE && wait_ms == 0);
    GIVES(EMPTY, mailproof_session_spf(session, &spf));
    GIVES(NULL_POINTER, mailproof_session_next_question(session, sizeof question, NULL));
    GIVES(BAD_SIZE, mailproof_session_next_question(session, 1, &question));
    OK(mailproof_session_next_question(session, sizeof question, &question));
    EXPECT(strcmp(question.name, "example.org") == 0 && question.record_type == 16);
    late = question.id;
    memset(&answer, 0, sizeof answer);
    answer.size = sizeof answer;
    GIVES(BAD_OPTION, mailproof_session_answer(session, question.id, &answer));
    answer.outcome = MAILPROOF_ANSWER_RECORDS;
    GIVES(BAD_ANSWER, mailproof_session_answer(session, question.id, &answer));
    record.octets = "v=spf1 ip4:192.0.2.7 -all";
    record.length = 25;
    answer.records = &record;
    answer.record_count = 1;
    answer.form = 7;
    GIVES(BAD_OPTION, mailproof_session_answer(session, question.id, &answer));
    answer.form = MAILPROOF_RECORDS_TEXT;
    answer.authentic = 3;
    GIVES(BAD_OPTION, mailproof_session_answer(session, question.id, &answer));
    answer.authentic = MAILPROOF_AUTHENTIC_YES;
    answer.ttl_seconds = 300;
    GIVES(UNKNOWN_QUESTION, mailproof_session_answer(session, 99, &answer));
    GIVES(BAD_ANSWER, mailproof_session_answer_message(session, question.id, "x", 1, 0));
    GIVES(TRUNCATED, mailproof_session_answer_message(session, question.id,
                                                      "\1\2\203\0\0\1\0\0\0\0\0\0\7example\3org\0\0\20\0\1", 29, 0));
    OK(mailproof_session_answer(session, question.id, &answer));
    OK(mailproof_session_spf(session, &spf));
    EXPECT(spf == MAILPROOF_SPF_RESULT_PASS);
    OK(mailproof_session_restart(session, &envelope));
    GIVES(UNKNOWN_QUESTION, mailproof_session_answer(session, late, &answer));

    /* The answer is in the cache; what is still open fails at the end. */
    OK(mailproof_session_push(session, message, sizeof message - 1));
    OK(mailproof_session_end(session));
    OK(mailproof_session_poll(session, &progress, &wait_ms));
    EXPECT(progress == MAILPROOF_PROGRESS_NEEDS_ANSWERS && wait_ms > 0 && wait_ms <= 30000);
    while (mailproof_session_next_question(session, sizeof question, &question) == MAILPROOF_STATUS_OK) {
        EXPECT(question.id > late && strcmp(question.name, "example.org") != 0);
        count++;
    }
    EXPECT(count > 0);
    OK(mailproof_session_give_up(session));
    OK(mailproof_session_finish(session, &verdict));
    OK(mailproof_verdict_dmarc(verdict, sizeof dmarc, &dmarc));
    EXPECT(dmarc.result == MAILPROOF_DMARC_RESULT_TEMP_ERROR);
    mailproof_verdict_free(verdict);

    /* Nobody answers, and nobody gives up: finish does not wait. */
    OK(mailproof_engine_purge(engine, "example.org", NULL));
    OK(mailproof_session_restart(session, &envelope));
    OK(mailproof_session_poll(session, &progress, NULL));
    OK(mailproof_session_next_question(session, sizeof question, &question));
    OK(mailproof_session_finish(session, &verdict));
    mailproof_verdict_free(verdict);
    mailproof_session_free(session);
    mailproof_engine_free(engine);
}

static void verdicts_are_explained(void)
{
    mailproof_engine *engine = engine_over_zone();
    mailproof_envelope envelope = plain_envelope();
    char *text = NULL;

    GIVES(NULL_POINTER, mailproof_explain(NULL, message, sizeof message - 1, &envelope, 0, &text));
    GIVES(NULL_POINTER, mailproof_explain(engine, message, sizeof message - 1, &envelope, 0, NULL));
    OK(mailproof_explain(engine, message, sizeof message - 1, &envelope, 1, &text));
    EXPECT(strncmp(text, "DMARC pass, action accept\n", 26) == 0);
    EXPECT(strstr(text, "example.org TXT") != NULL && strchr(text, '\033') == NULL);
    mailproof_text_free(text);
    mailproof_engine_free(engine);
}

static void log_is_told(void)
{
    mailproof_engine_options options = plain_options();
    mailproof_engine *engine;
    const char *name, *reason;

    options.log = take_log;
    options.log_context = log_text;
    OK(mailproof_engine_new(&options, &engine));
    EXPECT(log_count == 1 && strstr(log_text, "engine started") != NULL);
    OK(mailproof_engine_backend(engine, &name, &reason));
    EXPECT(strcmp(name, "none") == 0 && strcmp(reason, "") == 0);
    OK(mailproof_engine_backend(engine, NULL, NULL));
    OK(mailproof_engine_shut_down(engine, 0));
    OK(mailproof_engine_shut_down(engine, 0));
    mailproof_engine_free(engine);
}

/* What a server needs at MAIL FROM, and what it adds in the end. */
static void spf_is_told_before_the_message(void)
{
    mailproof_engine *engine = engine_over_zone();
    mailproof_envelope envelope = plain_envelope();
    mailproof_session *session;
    mailproof_spf_result result;
    mailproof_spf spf;

    envelope.ip = "192.0.2.8";
    OK(mailproof_session_new(engine, &envelope, &session));
    OK(mailproof_session_spf(session, &result));
    EXPECT(result == MAILPROOF_SPF_RESULT_FAIL);
    GIVES(BAD_SIZE, mailproof_session_mail_from(session, 3, &spf));
    GIVES(NULL_POINTER, mailproof_session_mail_from(session, sizeof spf, NULL));
    OK(mailproof_session_mail_from(session, sizeof spf, &spf));
    EXPECT(spf.result == MAILPROOF_SPF_RESULT_FAIL && strcmp(spf.domain, "example.org") == 0);
    EXPECT(strcmp(spf.explanation, "not 192.0.2.8") == 0);
    OK(mailproof_session_helo(session, sizeof spf, &spf));
    EXPECT(spf.result == MAILPROOF_SPF_RESULT_NONE && strcmp(spf.word, "none") == 0);
    mailproof_session_free(session);
    mailproof_engine_free(engine);
}

static void results_are_folded_and_forged_ones_found(void)
{
    static const struct {
        const char *field;
        bool are_forged;
    } fields[] = {
        {"Authentication-Results: mx.example.net; dmarc=pass", true},
        {"authentication-results : (x) MX.example.net.\r\n ; dmarc=pass\r\n", true},
        {"Authentication-Results: mx.example.net\n\t; dmarc=pass\n", true},
        {"Authentication-Results: mx.example.org; dmarc=pass", false},
        {"X-Results: mx.example.net; dmarc=pass", false},
        {"", false},
    };
    mailproof_engine *engine = engine_over_zone();
    mailproof_envelope envelope = plain_envelope();
    mailproof_verdict *verdict = verdict_of(engine, message, sizeof message - 1, &envelope);
    const char *line;
    char *text;
    size_t index;
    bool found = false;

    OK(mailproof_verdict_authentication_results(verdict, &line));
    OK(mailproof_verdict_results(verdict, "mx.example.net", MAILPROOF_LAYOUT_LINE, &text));
    EXPECT(strcmp(line, text) == 0);
    mailproof_text_free(text);
    OK(mailproof_verdict_results(verdict, "b.example", MAILPROOF_LAYOUT_FOLDED_LF, &text));
    EXPECT(strncmp(text, "b.example;\n\tspf=pass", 20) == 0 && strchr(text, '\r') == NULL);
    mailproof_text_free(text);
    OK(mailproof_verdict_results(verdict, "b.example", MAILPROOF_LAYOUT_FOLDED, &text));
    EXPECT(strncmp(text, "b.example;\r\n\tspf=pass", 21) == 0);
    mailproof_text_free(text);
    GIVES(BAD_OPTION, mailproof_verdict_results(verdict, "b.example", 3, &text));
    GIVES(NULL_POINTER, mailproof_verdict_results(verdict, NULL, 0, &text));
    mailproof_verdict_free(verdict);
    mailproof_engine_free(engine);

    for (index = 0; index < sizeof fields / sizeof *fields; index++) {
        const char *field = fields[index].field;
        uint64_t flags = strchr(field, '\r') == NULL ? MAILPROOF_LINE_ENDS_LF : 0;
        OK(mailproof_results_are_forged("mx.example.net", field, strlen(field), flags, &found));
        EXPECT(found == fields[index].are_forged);
    }
    GIVES(BAD_NAME, mailproof_results_are_forged("a b", "", 0, 0, &found));
    GIVES(BAD_OPTION, mailproof_results_are_forged("a", "", 0, 2, &found));
}

/* Where nobody answers, what is cancelled makes room at once, and the others are told in the end. */
static void messages_are_cancelled(void)
{
    mailproof_engine_options options = plain_options();
    mailproof_engine *engine, *other;
    mailproof_envelope envelope = plain_envelope();
    mailproof_queue *queue;
    mailproof_session *session;
    mailproof_completion completion;
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    char server[32];
    const char *servers[] = {server};
    struct pollfd readable;
    size_t count;
    int silent = socket(AF_INET, SOCK_DGRAM, 0);
    mailproof_status status;

    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT(silent >= 0 && bind(silent, (struct sockaddr *)&address, sizeof address) == 0);
    EXPECT(getsockname(silent, (struct sockaddr *)&address, &length) == 0);
    snprintf(server, sizeof server, "127.0.0.1:%d", ntohs(address.sin_port));
    options.dns = MAILPROOF_DNS_SERVERS;
    options.servers = servers;
    options.server_count = 1;
    options.threads = 1;
    OK(mailproof_engine_new(&options, &engine));
    OK(mailproof_queue_new(engine, 2, &queue));
    OK(mailproof_queue_submit(queue, message, sizeof message - 1, &envelope, 1));
    OK(mailproof_queue_submit(queue, message, sizeof message - 1, &envelope, 2));
    GIVES(FULL, mailproof_queue_submit(queue, message, sizeof message - 1, &envelope, 3));
    OK(mailproof_session_new(engine, &envelope, &session));
    OK(mailproof_session_push(session, message, sizeof message - 1));
    GIVES(FULL, mailproof_queue_finish(queue, session, 4));
    OK(mailproof_queue_cancel(queue, 2));
    OK(mailproof_queue_cancel(queue, 77));
    /* A thread of the engine makes the room. */
    while ((status = mailproof_queue_finish(queue, session, 4)) == MAILPROOF_STATUS_FULL)
        sched_yield();
    EXPECT(status == MAILPROOF_STATUS_OK);
    GIVES(WRONG_STATE, mailproof_session_push(session, "x", 1));
    OK(mailproof_session_restart(session, &envelope));
    OK(mailproof_engine_new(&options, &other));
    mailproof_session_free(session);
    OK(mailproof_session_new(other, &envelope, &session));
    GIVES(BAD_OPTION, mailproof_queue_finish(queue, session, 5));
    mailproof_session_free(session);
    OK(mailproof_engine_shut_down(other, 0));
    mailproof_engine_free(other);

    /* Nobody waits for the silent server any longer. */
    OK(mailproof_engine_shut_down(engine, 0));
    OK(mailproof_queue_descriptor(queue, &readable.fd));
    readable.events = POLLIN;
    {
        uint64_t tokens = 0;
        size_t left = 2;
        while (left > 0) {
            mailproof_spf spf;
            EXPECT(poll(&readable, 1, -1) == 1);
            OK(mailproof_queue_drain(queue, &completion, 1, &count));
            if (count == 0)
                continue;
            OK(mailproof_verdict_spf(completion.verdict, sizeof spf, &spf));
            EXPECT(spf.result == MAILPROOF_SPF_RESULT_TEMP_ERROR);
            mailproof_verdict_free(completion.verdict);
            tokens += completion.token;
            left--;
        }
        EXPECT(tokens == 1 + 4);
    }
    mailproof_queue_free(queue);
    mailproof_engine_free(engine);
    close(silent);
}

/* A program may block a signal when the threads of an engine are there already, and read it from a descriptor. */
static void threads_take_no_signals(void)
{
    mailproof_engine_options options = plain_options();
    mailproof_engine *engine;
    const char *servers[] = {"127.0.0.1:9"};
    struct signalfd_siginfo taken;
    sigset_t set, before;
    int descriptor;

    options.dns = MAILPROOF_DNS_SERVERS;
    options.servers = servers;
    options.server_count = 1;
    options.threads = 4;
    OK(mailproof_engine_new(&options, &engine));
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    EXPECT(sigprocmask(SIG_BLOCK, &set, &before) == 0 && !sigismember(&before, SIGTERM));
    descriptor = signalfd(-1, &set, SFD_CLOEXEC);
    EXPECT(descriptor >= 0);
    /* To the process: whichever thread does not block it would end everything here. */
    EXPECT(kill(getpid(), SIGTERM) == 0);
    EXPECT(read(descriptor, &taken, sizeof taken) == (ssize_t)sizeof taken && taken.ssi_signo == SIGTERM);
    close(descriptor);
    EXPECT(sigprocmask(SIG_SETMASK, &before, NULL) == 0);
    mailproof_engine_free(engine);
}

/* The threads of an engine are not in the child of a fork: what is the parent's stays with it, and nothing hangs. */
static void child_of_a_fork_takes_nothing(void)
{
    mailproof_engine_options options = plain_options();
    mailproof_engine *engine;
    mailproof_envelope envelope = plain_envelope();
    mailproof_session *session;
    mailproof_progress progress;
    mailproof_queue *queue;
    mailproof_completion completion;
    const char *servers[] = {"127.0.0.1:9"};
    struct pollfd readable;
    size_t count;
    int state;
    pid_t child;

    options.dns = MAILPROOF_DNS_SERVERS;
    options.servers = servers;
    options.server_count = 1;
    options.threads = 1;
    OK(mailproof_engine_new(&options, &engine));
    OK(mailproof_session_new(engine, &envelope, &session));
    GIVES(WRONG_STATE, mailproof_session_poll(session, &progress, NULL));
    OK(mailproof_queue_new(engine, 0, &queue));
    OK(mailproof_queue_submit(queue, message, sizeof message - 1, &envelope, 1));
    OK(mailproof_queue_descriptor(queue, &readable.fd));
    readable.events = POLLIN;
    EXPECT(poll(&readable, 1, -1) == 1);
    child = fork();
    EXPECT(child >= 0);
    if (child == 0) {
        alarm(20);
        GIVES(WRONG_STATE, mailproof_queue_submit(queue, message, sizeof message - 1, &envelope, 2));
        GIVES(WRONG_STATE, mailproof_queue_finish(queue, session, 3));
        GIVES(WRONG_STATE, mailproof_queue_drain(queue, &completion, 1, &count));
        mailproof_queue_free(queue);
        mailproof_session_free(session);
        mailproof_engine_free(engine);
        _exit(0);
    }
    EXPECT(waitpid(child, &state, 0) == child && WIFEXITED(state) && WEXITSTATUS(state) == 0);
    EXPECT(poll(&readable, 1, 0) == 1);
    OK(mailproof_queue_drain(queue, &completion, 1, &count));
    EXPECT(count == 1 && completion.token == 1);
    mailproof_verdict_free(completion.verdict);
    OK(mailproof_engine_shut_down(engine, 100));
    mailproof_queue_free(queue);
    mailproof_queue_free(NULL);
    mailproof_session_free(session);
    mailproof_engine_free(engine);
}

int main(int argc, char **argv)
{
    EXPECT(argc == 2);
    library_says_what_it_is();
    options_that_can_not_be_are_refused();
    zones_name_the_line_at_fault();
    envelopes_are_read();
    verdicts_are_read();
    what_is_signed_verifies();
    cache_is_counted_purged_written_and_read(argv[1]);
    sessions_keep_their_order();
    questions_are_the_callers();
    verdicts_are_explained();
    log_is_told();
    spf_is_told_before_the_message();
    results_are_folded_and_forged_ones_found();
    messages_are_cancelled();
    threads_take_no_signals();
    child_of_a_fork_takes_nothing();
    return 0;
}

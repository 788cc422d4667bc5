/*
 * Exim asks libmailproof about every message that comes in, before it says 250 to it: a local_scan() module.
 *
 *     cc -shared -fPIC -I/usr/include/exim4 -o mailproof-exim.so local_scan.c $(pkg-config --cflags --libs mailproof)
 *
 * needs the headers of Exim (Debian: exim4-dev), and in the configuration of an Exim that loads modules (Debian: all of
 * them):
 *
 *     local_scan_path = /usr/local/lib/mailproof-exim.so
 *
 * The message gets an Authentication-Results field on top (RFC 8601), and those that claim to be from this host are taken
 * out. It is refused where the policy says reject, put off where it says defer, and marked with X-Mailproof-Action where it
 * says quarantine. Mail of this host's own programs and of users who have logged in is not judged: there is no client whose
 * address could say anything, and it is not signed yet. An ACL may set these variables before DATA, all optional:
 *
 *     acl_m_mailproof_authserv    the name in the field; else $primary_hostname
 *     acl_m_mailproof_server      a DNS server, as IP or IP:PORT; else those of the system
 *     acl_m_mailproof_zone        a zone file in the place of DNS servers, for tests
 *     acl_m_mailproof_policy      7489 to refuse where p=reject says so (RFC 7489); else RFC 9989
 *
 * Exim forks for each connection, and threads do not survive that, so the engine is made at the first message of a
 * connection. Its cache lives as long: let Exim and Mailproof ask a caching resolver on the same host.
 */
#define LOCAL_SCAN 1
#include <local_scan.h>
/* Names of Exim that are plain words. */
#undef OK
#undef FAIL
#undef ERROR

#include <mailproof.h>

#include <errno.h>
#include <string.h>
#include <stdlib.h>
#include <unistd.h>

#define PIECE_OCTETS 65536
#define RECEIVED 'P'
#define DELETED '*'
#define OTHER ' '

int local_scan_version_major(void)
{
    return LOCAL_SCAN_ABI_VERSION_MAJOR;
}

int local_scan_version_minor(void)
{
    return LOCAL_SCAN_ABI_VERSION_MINOR;
}

static void log_line(void *context, uint32_t level, const char *text)
{
    (void)context;
    if (level != MAILPROOF_LOG_INFO)
        log_write(0, LOG_MAIN, "mailproof: %s", text);
}

/* What Exim makes of a text; "" when that fails. */
static const char *expanded(const char *text)
{
    uschar *found = expand_string((uschar *)text);
    return found == NULL ? "" : (const char *)found;
}

static mailproof_engine *make_engine(const char *authserv)
{
    const char *server = expanded("${if def:acl_m_mailproof_server{$acl_m_mailproof_server}}");
    const char *zone_path = expanded("${if def:acl_m_mailproof_zone{$acl_m_mailproof_zone}}");
    mailproof_engine_options options;
    mailproof_engine *engine = NULL;
    mailproof_zone *zone = NULL;

    if (mailproof_engine_options_init(sizeof options, &options) != MAILPROOF_STATUS_OK)
        return NULL;
    options.authserv_id = authserv;
    options.policy = (uint32_t)atoi(expanded("${if def:acl_m_mailproof_policy{$acl_m_mailproof_policy}{9989}}"));
    options.threads = 1;
    options.log = log_line;
    if (*zone_path != '\0') {
        if (mailproof_zone_new(&zone) != MAILPROOF_STATUS_OK
            || mailproof_zone_add_file(zone, zone_path) != MAILPROOF_STATUS_OK) {
            mailproof_zone_free(zone);
            return NULL;
        }
        options.dns = MAILPROOF_DNS_ZONE;
        options.zone = zone;
    } else if (*server != '\0') {
        options.dns = MAILPROOF_DNS_SERVERS;
        options.servers = &server;
        options.server_count = 1;
    }
    if (mailproof_engine_new(&options, &engine) != MAILPROOF_STATUS_OK)
        engine = NULL;
    mailproof_zone_free(zone);
    return engine;
}

/* The header as it came, without the Received field that Exim itself has put in front. */
static mailproof_status push_header(mailproof_session *session)
{
    mailproof_status status = MAILPROOF_STATUS_OK;
    header_line *line;
    int is_first = 1;

    for (line = header_list; line != NULL && status == MAILPROOF_STATUS_OK; line = line->next) {
        if (line->type == DELETED || line->slen == 0)
            continue;
        if (!(is_first && line->type == RECEIVED))
            status = mailproof_session_field(session, line->text, (size_t)line->slen);
        is_first = 0;
    }
    return status == MAILPROOF_STATUS_OK ? mailproof_session_end_of_fields(session) : status;
}

/* The body, from the file that Exim has it in. */
static mailproof_status push_body(mailproof_session *session, int file)
{
    static char piece[PIECE_OCTETS];
    mailproof_status status = MAILPROOF_STATUS_OK;
    ssize_t length;

    if (lseek(file, SPOOL_DATA_START_OFFSET, SEEK_SET) < 0)
        return MAILPROOF_STATUS_FILE;
    while (status == MAILPROOF_STATUS_OK && (length = read(file, piece, sizeof piece)) != 0) {
        if (length > 0)
            status = mailproof_session_push(session, piece, (size_t)length);
        else if (errno != EINTR)
            status = MAILPROOF_STATUS_FILE; /* Not the end: what was read is not the message. */
    }
    return status;
}

static mailproof_verdict *verify(mailproof_engine *engine, int file)
{
    mailproof_envelope envelope;
    mailproof_session *session;
    mailproof_verdict *verdict = NULL;

    memset(&envelope, 0, sizeof envelope);
    envelope.size = sizeof envelope;
    envelope.ip = (const char *)sender_host_address;
    envelope.helo = expanded("$sender_helo_name");
    envelope.mail_from = (const char *)sender_address;
    envelope.flags = MAILPROOF_LINE_ENDS_LF; /* Exim keeps messages so. */
    if (mailproof_session_new(engine, &envelope, &session) != MAILPROOF_STATUS_OK)
        return NULL;
    if (push_header(session) != MAILPROOF_STATUS_OK || push_body(session, file) != MAILPROOF_STATUS_OK
        || mailproof_session_finish(session, &verdict) != MAILPROOF_STATUS_OK)
        verdict = NULL;
    mailproof_session_free(session);
    return verdict;
}

/* Takes out the results that only this host may write (RFC 8601 section 5). */
static void remove_forged_results(const char *authserv)
{
    header_line *line;
    bool are_forged;

    for (line = header_list; line != NULL; line = line->next)
        if (line->type != DELETED
            && mailproof_results_are_forged(authserv, line->text, (size_t)line->slen, MAILPROOF_LINE_ENDS_LF, &are_forged)
                == MAILPROOF_STATUS_OK
            && are_forged)
            line->type = DELETED;
}

int local_scan(int file, uschar **return_text)
{
    static mailproof_engine *engine;
    const char *authserv = expanded("${if def:acl_m_mailproof_authserv{$acl_m_mailproof_authserv}{$primary_hostname}}");
    char *results = NULL;
    mailproof_action action = MAILPROOF_ACTION_ACCEPT;
    mailproof_verdict *verdict = NULL;

    remove_forged_results(authserv);
    if (sender_host_address == NULL || sender_host_authenticated != NULL)
        return LOCAL_SCAN_ACCEPT;
    if (engine == NULL)
        engine = make_engine(authserv);
    if (engine != NULL)
        verdict = verify(engine, file);
    if (verdict == NULL || mailproof_verdict_action(verdict, &action) != MAILPROOF_STATUS_OK
        || mailproof_verdict_results(verdict, authserv, MAILPROOF_LAYOUT_FOLDED_LF, &results) != MAILPROOF_STATUS_OK) {
        log_write(0, LOG_MAIN, "mailproof: %s", mailproof_last_error());
        mailproof_verdict_free(verdict);
        return LOCAL_SCAN_ACCEPT; /* Mail goes on when its judge is ill. */
    }
    header_add_at_position(FALSE, NULL, FALSE, OTHER, "Authentication-Results: %s\n", results);
    mailproof_text_free(results);
    if (action == MAILPROOF_ACTION_QUARANTINE)
        header_add(OTHER, "X-Mailproof-Action: quarantine\n");
    mailproof_verdict_free(verdict);
    switch (action) {
    case MAILPROOF_ACTION_REJECT:
        *return_text = (uschar *)"5.7.1 refused: the domain of the author says that this is not its mail";
        return LOCAL_SCAN_REJECT;
    case MAILPROOF_ACTION_DEFER:
        *return_text = (uschar *)"4.7.0 the domain of the author could not be asked, try again later";
        return LOCAL_SCAN_TEMPREJECT;
    default:
        return LOCAL_SCAN_ACCEPT;
    }
}

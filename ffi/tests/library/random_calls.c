/*
 * Calls functions of the library in random order, with good arguments and bad ones, and checks what holds for every call: a
 * status that there is, out pointers that are written with MAILPROOF_STATUS_OK and only then. Sanitizers see the rest.
 *
 *     random_calls SEED STEPS SERVER BACKEND
 *
 * BACKEND is auto or epoll: Valgrind does not run rings.
 * What the header leaves to the caller is kept: pointers point to something or are NULL, handles are freed once.
 */
#include <mailproof.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POOL 6

static mailproof_engine *engines[POOL];
static mailproof_session *sessions[POOL];
static mailproof_queue *queues[POOL];
static mailproof_zone *zones[POOL];
static mailproof_verdict *verdicts[POOL];
static mailproof_signer *signers[POOL];

static uint64_t state;
static unsigned long step;
static const char *server;
static int has_rings;
static unsigned long counts[64];

static uint64_t number(void)
{
    uint64_t mixed = state += 0x9e3779b97f4a7c15u;

    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    return mixed ^ (mixed >> 31);
}

static size_t below(size_t limit)
{
    return (size_t)(number() % limit);
}

/* True once in so many times. */
static int once_in(size_t times)
{
    return below(times) == 0;
}

static void must(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "random_calls: step %lu: %s; last error: %s\n", step, what, mailproof_last_error());
        exit(1);
    }
}

/* Every result of the library goes through here. */
static int done(mailproof_status status)
{
    must((uint32_t)status <= MAILPROOF_STATUS_FULL, "a status that there is not");
    must(status != MAILPROOF_STATUS_DEFECT, "a defect");
    counts[status]++;
    if (status != MAILPROOF_STATUS_OK)
        must(mailproof_last_error()[0] != '\0', "an error without words");
    return status == MAILPROOF_STATUS_OK;
}

/* A handle went into a pool, or stays out of it. */
#define TAKE(call, pool, type)                                          \
    do {                                                                \
        size_t place_ = below(POOL);                                    \
        type *made_ = (type *)(void *)&step;                            \
        if (pool[place_] != NULL)                                       \
            break;                                                      \
        if (done(call))                                                 \
            pool[place_] = made_;                                       \
        else                                                            \
            must((void *)made_ == (void *)&step, "an out pointer was written"); \
    } while (0)

/* Sometimes NULL, as places of the pool are empty too. */
#define ANY(pool) (pool[0] != NULL && once_in(2) ? pool[0] : pool[below(POOL)])

#define FREE(function, pool)      \
    do {                          \
        size_t place_ = below(POOL); \
        function(pool[place_]);   \
        pool[place_] = NULL;      \
    } while (0)

static const char *any_text(void)
{
    static const char *const texts[] = {
        "", "-", "example.org", "mx.example.org", "ann@example.org", "@", "a..b", "192.0.2.7", "2001:db8::1", "\xff\xfe",
        "s1", "127.0.0.1:1", "/nowhere", "<>", "postmaster@[192.0.2.7]", "xn--bcher-kva.example", "nonsense",
    };
    return once_in(12) ? NULL : texts[below(sizeof texts / sizeof *texts)];
}

static const char *any_octets(size_t *length)
{
    static const char *const texts[] = {
        "From: ann@example.org\r\nSubject: x\r\n\r\nText.\r\n", "From: a@example.org, b@example.net\r\n\r\n", "\r\n", "",
        "From: ann@example.org\nSubject: x\n\nText.\n", "\n", "\r", "X", "DKIM-Signature: v=1; a=rsa-sha256; d=example.org;"
        " s=s1; h=From; bh=AAAA; b=AAAA\r\nFrom: ann@example.org\r\n\r\n", "Subject: \xff\xff\r\n folded\r\n", "\4\0\1\2",
        "v=spf1 ip4:192.0.2.7 -all", "192.0.2.1", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "example.org: [{TXT: 'v=spf1 a -all'}]\n", "example.org. TXT \"v=spf1 -all\"\n",
    };
    const char *text = texts[below(sizeof texts / sizeof *texts)];

    *length = strlen(text);
    if (once_in(8))
        *length = below(*length + 1);
    if (once_in(40))
        *length = once_in(2) ? (size_t)-1 : (size_t)INTPTR_MAX + 1;
    if (once_in(20))
        text = NULL;
    if (text != NULL && once_in(60)) {
        /* A long one, the same each time. */
        static char longest[300001];
        *length = sizeof longest - 1;
        memset(longest, 'x', *length);
        memcpy(longest, "From: ann@example.org\r\n\r\n", 25);
        return longest;
    }
    return text;
}

/* Sizes of structures: mostly right. The rooms below are larger than any of them. */
static size_t any_size(size_t right)
{
    static const size_t wrong[] = {0, 1, 7, 8, 4097, 1u << 20};
    return once_in(24) ? wrong[below(4)] : right + (once_in(24) ? 8 * below(20) : 0);
}

typedef union {
    mailproof_engine_options engine;
    mailproof_envelope envelope;
    mailproof_answer answer;
    mailproof_signer_options signer;
    mailproof_question question;
    mailproof_spf spf;
    mailproof_dkim dkim;
    mailproof_arc arc;
    mailproof_arc_sealer sealer;
    mailproof_dmarc dmarc;
    mailproof_author author;
    mailproof_defects defects;
    mailproof_client client;
    mailproof_cache_statistics cache;
    mailproof_network_statistics network;
    mailproof_cache_loaded loaded;
    unsigned char octets[1024];
} any_struct;

static mailproof_envelope *any_envelope(any_struct *it)
{
    static const uint8_t address[16] = {192, 0, 2, 7};

    memset(it, 0, sizeof *it);
    it->envelope.size = any_size(sizeof it->envelope);
    it->envelope.ip = once_in(4) ? any_text() : "192.0.2.7";
    it->envelope.helo = any_text();
    it->envelope.mail_from = any_text();
    it->envelope.flags = once_in(24) ? number() : below(2);
    if (once_in(4)) {
        it->envelope.ip_octets = address;
        it->envelope.ip_length = once_in(4) ? below(17) : 4;
    }
    return once_in(32) ? NULL : &it->envelope;
}

static mailproof_answer *any_answer(any_struct *it)
{
    static mailproof_record records[4];
    size_t index;

    memset(it, 0, sizeof *it);
    for (index = 0; index < 4; index++)
        records[index].octets = any_octets(&records[index].length);
    it->answer.size = any_size(sizeof it->answer);
    it->answer.outcome = (uint32_t)below(10);
    it->answer.form = (uint32_t)below(3);
    it->answer.records = once_in(16) ? NULL : records;
    it->answer.record_count = below(5);
    it->answer.ttl_seconds = once_in(3) ? MAILPROOF_TTL_NONE : number() % 1000;
    it->answer.authentic = (uint32_t)below(4);
    return once_in(32) ? NULL : &it->answer;
}

static void make_engine(void)
{
    any_struct it;
    const char *servers[2];

    memset(&it, 0, sizeof it);
    it.engine.size = any_size(sizeof it.engine);
    it.engine.flags = once_in(16) ? number() : below(64);
    it.engine.authserv_id = any_text();
    /* Never the servers of the system, which may be far away. */
    it.engine.dns = (uint32_t)below(once_in(16) ? 9 : 3) + 1;
    it.engine.policy = once_in(16) ? (uint32_t)number() : once_in(2) ? MAILPROOF_POLICY_7489 : 0;
    /* Never one that would be silent. */
    servers[0] = once_in(8) ? "nonsense" : once_in(8) ? NULL : server;
    servers[1] = server;
    it.engine.servers = servers;
    it.engine.server_count = below(3);
    it.engine.zone = ANY(zones);
    it.engine.threads = once_in(16) ? 1025 : 1;
    it.engine.backend = has_rings ? (uint32_t)below(4) : MAILPROOF_BACKEND_EPOLL;
    it.engine.cache_bytes = once_in(4) ? MAILPROOF_CACHE_NONE : number() % 100000;
    it.engine.now_seconds = once_in(2) ? 0 : 1795392000;
    TAKE(mailproof_engine_new(once_in(32) ? NULL : &it.engine, once_in(32) ? NULL : &made_), engines, mailproof_engine);
}

static void make_signer(void)
{
    any_struct it;
    const char *names[3];
    const char *key;
    size_t length;

    memset(&it, 0, sizeof it);
    it.signer.size = any_size(sizeof it.signer);
    it.signer.flags = once_in(8) ? number() : below(4);
    it.signer.domain = once_in(2) ? any_text() : "example.org";
    it.signer.selector = once_in(2) ? any_text() : "s1";
    it.signer.identity = once_in(2) ? NULL : any_text();
    names[0] = "From";
    names[1] = any_text();
    names[2] = any_text();
    it.signer.names = names;
    it.signer.name_count = below(4);
    it.signer.expire_seconds = once_in(2) ? 0 : number();
    key = once_in(2) ? "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=" : any_octets(&length);
    length = key == NULL ? below(2) : strlen(key);
    TAKE(mailproof_signer_new(key, length, once_in(32) ? NULL : &it.signer, once_in(32) ? NULL : &made_), signers,
         mailproof_signer);
}

/* Reads all of a text, for the sanitizers to see. */
static void read_text(const char *text)
{
    static volatile size_t total;

    if (text != NULL)
        total = total + strlen(text);
}

static void use_engine(void)
{
    mailproof_engine *engine = ANY(engines);
    any_struct it;
    const char *name = NULL, *octets;
    char *text = NULL;
    size_t length, count = 77;
    bool are_forged = false;

    switch (below(10)) {
    case 8:
        octets = any_octets(&length);
        if (!done(mailproof_results_are_forged(any_text(), octets, length, below(3), once_in(16) ? NULL : &are_forged)))
            must(!are_forged, "an out pointer was written");
        break;
    case 7:
        octets = any_octets(&length);
        done(mailproof_explain(engine, octets, length, any_envelope(&it), (uint32_t)below(2), once_in(16) ? NULL : &text));
        mailproof_text_free(text);
        break;
    case 0:
        done(mailproof_engine_backend(engine, once_in(4) ? NULL : &name, NULL));
        break;
    case 1:
        done(mailproof_engine_cache_statistics(engine, any_size(sizeof it.cache), &it.cache));
        break;
    case 2:
        done(mailproof_engine_network_statistics(engine, any_size(sizeof it.network), once_in(8) ? NULL : &it.network));
        break;
    case 3:
        if (!done(mailproof_engine_purge(engine, any_text(), &count)))
            must(count == 77, "an out pointer was written");
        break;
    case 4:
        done(mailproof_engine_remember(engine, any_text(), once_in(2) ? 16 : (uint32_t)below(30), any_answer(&it)));
        break;
    case 5:
        done(mailproof_engine_load_cache(engine, any_text(), sizeof it.loaded, &it.loaded));
        break;
    case 6:
        if (once_in(8))
            done(mailproof_engine_shut_down(engine, below(20)));
        break;
    default:
        octets = any_octets(&length);
        TAKE(mailproof_verify(engine, octets, length, any_envelope(&it), once_in(32) ? NULL : &made_), verdicts,
             mailproof_verdict);
    }
}

static void use_session(void)
{
    mailproof_session *session = ANY(sessions);
    mailproof_progress progress = (mailproof_progress)77;
    mailproof_spf_result spf = (mailproof_spf_result)77;
    any_struct it;
    uint64_t wait_ms;
    const char *octets;
    size_t length;
    bool wants;

    switch (below(16)) {
    case 14:
        done(mailproof_session_mail_from(session, any_size(sizeof it.spf), once_in(16) ? NULL : &it.spf));
        break;
    case 15:
        if (done(mailproof_session_helo(session, any_size(sizeof it.spf), &it.spf))) {
            read_text(it.spf.word);
            read_text(it.spf.domain);
        }
        break;
    case 0:
        done(mailproof_session_restart(session, any_envelope(&it)));
        break;
    case 1:
        octets = any_octets(&length);
        done(mailproof_session_field(session, octets, length));
        break;
    case 2:
        done(mailproof_session_end_of_fields(session));
        break;
    case 3:
    case 4:
        octets = any_octets(&length);
        done(mailproof_session_push(session, octets, length));
        break;
    case 5:
        done(mailproof_session_end(session));
        break;
    case 6:
    case 7:
        if (!done(mailproof_session_poll(session, once_in(16) ? NULL : &progress, once_in(4) ? NULL : &wait_ms)))
            must((uint32_t)progress == 77, "an out pointer was written");
        break;
    case 8:
        done(mailproof_session_give_up(session));
        break;
    case 9:
        if (!done(mailproof_session_spf(session, once_in(16) ? NULL : &spf)))
            must((uint32_t)spf == 77, "an out pointer was written");
        break;
    case 10:
        done(mailproof_session_wants_body(session, once_in(16) ? NULL : &wants));
        break;
    case 11:
        if (done(mailproof_session_next_question(session, any_size(sizeof it.question),
                                                 once_in(16) ? NULL : &it.question))) {
            uint64_t id = once_in(8) ? below(1000) : it.question.id;
            must(strlen(it.question.name) > 0, "a question without a name");
            if (!once_in(4))
                done(mailproof_session_answer(session, id, any_answer(&it)));
        }
        break;
    case 12:
        octets = any_octets(&length);
        done(mailproof_session_answer_message(session, below(50), octets, length, (uint32_t)below(2)));
        break;
    default:
        TAKE(mailproof_session_finish(session, once_in(32) ? NULL : &made_), verdicts, mailproof_verdict);
    }
}

static void use_queue(void)
{
    mailproof_queue *queue = ANY(queues);
    mailproof_completion completions[3];
    any_struct it;
    const char *octets;
    size_t length, count = 77, index;
    int descriptor = -77;

    switch (below(6)) {
    case 4:
        done(mailproof_queue_finish(queue, ANY(sessions), number()));
        break;
    case 5:
        done(mailproof_queue_cancel(queue, number()));
        break;
    case 0:
        if (!done(mailproof_queue_descriptor(queue, once_in(16) ? NULL : &descriptor)))
            must(descriptor == -77, "an out pointer was written");
        break;
    case 1:
        if (!done(mailproof_queue_drain(queue, once_in(16) ? NULL : completions, below(4), once_in(16) ? NULL : &count)))
            must(count == 77, "an out pointer was written");
        for (index = 0; count != 77 && index < count; index++)
            mailproof_verdict_free(completions[index].verdict);
        break;
    default:
        octets = any_octets(&length);
        done(mailproof_queue_submit(queue, octets, length, any_envelope(&it), number()));
    }
}

static void use_verdict(void)
{
    mailproof_verdict *verdict = ANY(verdicts);
    mailproof_action action;
    any_struct it, before;
    char *json = NULL;
    const char *text = NULL;
    size_t count;
    int is_done = 0;

    memset(&it, 0xa5, sizeof it);
    before = it;
    switch (below(14)) {
    case 13:
        if (done(mailproof_verdict_results(verdict, any_text(), (uint32_t)below(4), once_in(16) ? NULL : &json)))
            read_text(json);
        mailproof_text_free(json);
        return;
    case 0:
        done(mailproof_verdict_action(verdict, once_in(16) ? NULL : &action));
        return;
    case 1:
        if (done(mailproof_verdict_authentication_results(verdict, &text)))
            read_text(text);
        return;
    case 2:
        if ((is_done = done(mailproof_verdict_client(verdict, any_size(sizeof it.client), &it.client))))
            read_text(it.client.ip);
        break;
    case 3:
        if ((is_done = done(mailproof_verdict_spf(verdict, any_size(sizeof it.spf), &it.spf)))) {
            read_text(it.spf.word);
            read_text(it.spf.problem_text);
            read_text(it.spf.mechanism);
        }
        break;
    case 4:
        is_done = done(mailproof_verdict_helo(verdict, any_size(sizeof it.spf), &it.spf));
        break;
    case 5:
        done(mailproof_verdict_dkim_count(verdict, once_in(16) ? NULL : &count));
        return;
    case 6:
        if ((is_done = done(mailproof_verdict_dkim(verdict, below(3), any_size(sizeof it.dkim), &it.dkim)))) {
            read_text(it.dkim.identity);
            read_text(it.dkim.b);
        }
        break;
    case 7:
        is_done = done(mailproof_verdict_arc(verdict, any_size(sizeof it.arc), &it.arc));
        break;
    case 8:
        is_done = done(mailproof_verdict_arc_sealer(verdict, below(3), any_size(sizeof it.sealer), &it.sealer));
        break;
    case 9:
        if ((is_done = done(mailproof_verdict_dmarc(verdict, any_size(sizeof it.dmarc), &it.dmarc)))) {
            read_text(it.dmarc.from_domain);
            read_text(it.dmarc.problem_text);
        }
        break;
    case 10:
        is_done = done(mailproof_verdict_author(verdict, any_size(sizeof it.author), &it.author));
        break;
    case 11:
        if (done(mailproof_verdict_author_domain(verdict, below(3), once_in(16) ? NULL : &text)))
            read_text(text);
        return;
    default:
        if (done(mailproof_verdict_json(verdict, any_text(), once_in(16) ? NULL : &json)))
            read_text(json);
        mailproof_text_free(json);
        return;
    }
    must(is_done || memcmp(&it, &before, sizeof it) == 0, "a structure was written");
}

static void use_signer(void)
{
    mailproof_signer *signer = ANY(signers);
    const char *octets;
    char *text = NULL;
    size_t length;

    if (once_in(2)) {
        octets = any_octets(&length);
        done(mailproof_signer_sign(signer, octets, length, once_in(16) ? NULL : &text));
    } else {
        done(mailproof_signer_record(signer, once_in(16) ? NULL : &text));
    }
    read_text(text);
    mailproof_text_free(text);
}

static void use_zone(void)
{
    mailproof_zone *zone = ANY(zones);
    const char *octets;
    size_t length;

    if (once_in(4)) {
        done(mailproof_zone_add_file(zone, any_text()));
        return;
    }
    octets = any_octets(&length);
    done(mailproof_zone_add_text(zone, octets, length, (uint32_t)below(3)));
}

static void make_something(void)
{
    any_struct it;

    switch (below(5)) {
    case 0:
        make_engine();
        break;
    case 1:
        TAKE(mailproof_session_new(ANY(engines), any_envelope(&it), once_in(32) ? NULL : &made_), sessions,
             mailproof_session);
        break;
    case 2:
        TAKE(mailproof_queue_new(ANY(engines), below(4), once_in(32) ? NULL : &made_), queues, mailproof_queue);
        break;
    case 3:
        TAKE(mailproof_zone_new(once_in(32) ? NULL : &made_), zones, mailproof_zone);
        break;
    default:
        make_signer();
    }
}

static void free_something(size_t kind)
{
    switch (kind) {
    case 0:
        FREE(mailproof_engine_free, engines);
        break;
    case 1:
        FREE(mailproof_session_free, sessions);
        break;
    case 2:
        FREE(mailproof_queue_free, queues);
        break;
    case 3:
        FREE(mailproof_zone_free, zones);
        break;
    case 4:
        FREE(mailproof_signer_free, signers);
        break;
    default:
        FREE(mailproof_verdict_free, verdicts);
    }
}

static void free_all(void)
{
    size_t index;

    for (index = 0; index < POOL; index++) {
        mailproof_engine_free(engines[index]);
        mailproof_session_free(sessions[index]);
        mailproof_queue_free(queues[index]);
        mailproof_zone_free(zones[index]);
        mailproof_signer_free(signers[index]);
        mailproof_verdict_free(verdicts[index]);
    }
}

int main(int argc, char **argv)
{
    unsigned long steps;
    size_t index;

    if (argc != 5)
        return 64;
    state = strtoull(argv[1], NULL, 10);
    steps = strtoul(argv[2], NULL, 10);
    server = argv[3];
    has_rings = strcmp(argv[4], "epoll") != 0;
    for (step = 0; step < steps; step++) {
        switch (below(16)) {
        case 0:
        case 1:
            make_something();
            break;
        case 2:
            free_something(once_in(3) ? below(6) : 5);
            break;
        case 3:
        case 4:
            use_engine();
            break;
        case 5:
            use_queue();
            break;
        case 6:
            use_zone();
            break;
        case 7:
            use_signer();
            break;
        case 8:
        case 9:
            use_verdict();
            break;
        default:
            use_session();
        }
    }
    free_all();
    for (index = 0; index <= MAILPROOF_STATUS_FULL; index++)
        if (counts[index] > 0)
            printf("%s: %lu\n", mailproof_status_text((uint32_t)index), counts[index]);
    return 0;
}

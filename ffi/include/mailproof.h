/* libmailproof: verifies SPF, DKIM, DMARC and ARC. Made from the comments of the library; not edited by hand.
 *
 * There are four ways in, each with a program in the folder examples:
 *
 *   1. mailproof_verify(): message and envelope in, verdict out.
 *   2. mailproof_session_*(): the message piece by piece, any number of messages interleaved.
 *   3. mailproof_queue_*(): for event loops; submit messages, wait by a descriptor, drain verdicts.
 *   4. mailproof_session_next_question() and _answer(): with DNS of your own; no thread and no socket of the library.
 *
 * What holds for all of it:
 *
 * - Every function that can fail gives a mailproof_status. Results go through the last pointers, and these are written only
 *   with MAILPROOF_STATUS_OK. mailproof_last_error() has the details. A verdict is no error, whatever it says.
 * - NULL where there must be something is answered with a status, except for the optional pointers that are named as such.
 *   Functions that free take NULL.
 * - A handle that a function makes belongs to the caller, until it is freed by the function of its kind, once. Memory of
 *   the library is never freed with free(). Octets and texts that the caller hands in are the caller's, and are not looked
 *   at after the call.
 * - Where the first argument is const, the handle may be used by several threads at once; otherwise by one at a time. No
 *   handle may be freed while another call uses it. Functions without a handle may be called from any thread.
 * - Texts are UTF-8 and end with NUL. Octets with a length may hold anything, and may be NULL where the length is 0.
 * - Structures that the caller fills in begin with their size, and the rest may be zero. For those that the library fills
 *   in, the size of the room is an argument. So programs work on with later versions, which add members at the end.
 * - Numbers of enumerations are never given another meaning; later versions may add some, so have a default.
 * - The library calls nothing but the log callback, takes no signals, sets no global state of the process and keeps the
 *   allocator as it is. It stops a panic of its own code at its border: MAILPROOF_STATUS_DEFECT.
 * - Times are in the units that their names tell, sizes in octets.
 */


#ifndef MAILPROOF_H
#define MAILPROOF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * In mailproof_features(): the DNS client and the threads, MAILPROOF_DNS_SYSTEM, MAILPROOF_DNS_SERVERS, and queues.
 */
#define MAILPROOF_FEATURE_NETWORK 1

/**
 * In mailproof_features(): zones.
 */
#define MAILPROOF_FEATURE_ZONE_FILES 2

/**
 * In mailproof_features(): servers with a name are asked by DNS over TLS (RFC 7858).
 */
#define MAILPROOF_FEATURE_DNS_OVER_TLS 4

/**
 * In mailproof_features(): mailproof_explain().
 */
#define MAILPROOF_FEATURE_EXPLAIN 8

/**
 * What a message of the log is: a defect of the library, which it survived.
 */
#define MAILPROOF_LOG_ERROR 1

/**
 * What a message of the log is: something that an operator should look at, such as DNS servers that never answer.
 */
#define MAILPROOF_LOG_WARNING 2

/**
 * What a message of the log is: how the engine works, once when it starts.
 */
#define MAILPROOF_LOG_INFO 3

/**
 * The text is YAML: a map from names to lists of `{TYPE: data}`.
 */
#define MAILPROOF_ZONE_YAML 0

/**
 * The text is a master file (RFC 1035 section 5).
 */
#define MAILPROOF_ZONE_MASTER 1

/**
 * Lines of the message end with LF, as programs of Unix keep them: each LF that no CR stands before is taken for CRLF.
 * Without it the message has to come with the line ends of SMTP, and a bare LF is a defect of it.
 */
#define MAILPROOF_LINE_ENDS_LF 1

/**
 * Ask the DNS servers of the system (/etc/resolv.conf), on threads of the engine.
 */
#define MAILPROOF_DNS_SYSTEM 0

/**
 * Ask the DNS servers that are named, on threads of the engine.
 */
#define MAILPROOF_DNS_SERVERS 1

/**
 * Answer from a zone; nothing is asked of the network, and there is no thread.
 */
#define MAILPROOF_DNS_ZONE 2

/**
 * The caller answers the questions of each session; there is no thread and no socket.
 */
#define MAILPROOF_DNS_CALLER 3

/**
 * io_uring where it works, else epoll.
 */
#define MAILPROOF_BACKEND_AUTO 0

/**
 * io_uring, or no engine.
 */
#define MAILPROOF_BACKEND_URING 1

/**
 * epoll.
 */
#define MAILPROOF_BACKEND_EPOLL 2

/**
 * DMARC as of RFC 9989: tree walk; `p=reject` alone quarantines (sections 4.10, 7.4).
 */
#define MAILPROOF_POLICY_9989 9989

/**
 * DMARC as of RFC 7489: Public Suffix List; `p=reject` rejects (sections 3.2, 6.6.2).
 */
#define MAILPROOF_POLICY_7489 7489

/**
 * A temporary error of DMARC defers the message instead of accepting it (RFC 9989 section 4.10.1).
 */
#define MAILPROOF_DEFER_ON_TEMPERROR 1

/**
 * A DKIM signature whose `l=` leaves octets uncovered may pass (RFC 6376 section 8.2).
 */
#define MAILPROOF_HONOUR_LENGTH 2

/**
 * From with several domains: judge each and keep the strictest (RFC 9989 section 11.5).
 */
#define MAILPROOF_STRICTEST_OF_SEVERAL 4

/**
 * SPF or a signature in temporary error counts as not passed for DMARC (RFC 9989 sections 4.4, 5.3.6).
 */
#define MAILPROOF_MECHANISM_ERRORS_FAIL 8

/**
 * Do not fetch the explanation of a failed SPF check (RFC 7208 section 6.2).
 */
#define MAILPROOF_NO_EXPLANATION 16

/**
 * Believe the AD bit of the DNS servers that are named (RFC 4035 section 4.9.3); only with MAILPROOF_DNS_SERVERS. For those
 * of the system their configuration says it (`options trust-ad`).
 */
#define MAILPROOF_TRUST_AD 32

/**
 * In `cache_bytes`: keep no answer.
 */
#define MAILPROOF_CACHE_NONE UINT64_MAX

/**
 * There are records of the type asked for.
 */
#define MAILPROOF_ANSWER_RECORDS 1

/**
 * The name exists, without records of this type.
 */
#define MAILPROOF_ANSWER_NO_DATA 2

/**
 * The name does not exist (RCODE 3).
 */
#define MAILPROOF_ANSWER_NO_SUCH_NAME 3

/**
 * No server answered in time.
 */
#define MAILPROOF_ANSWER_TIMED_OUT 4

/**
 * The servers failed (RCODE 2); also what a validating resolver says of bogus data.
 */
#define MAILPROOF_ANSWER_SERVFAIL 5

/**
 * The servers refused (RCODE 5), or any other RCODE that is no answer.
 */
#define MAILPROOF_ANSWER_REFUSED 6

/**
 * The answer could not be read.
 */
#define MAILPROOF_ANSWER_MALFORMED 7

/**
 * The servers could not be reached at all.
 */
#define MAILPROOF_ANSWER_UNREACHABLE 8

/**
 * Records are RDATA as on the wire, names in them uncompressed: what libunbound and ldns give.
 */
#define MAILPROOF_RECORDS_WIRE 0

/**
 * Records are texts: `192.0.2.1`, `mx.example.org`, `10 mx.example.org`; of TXT the strings joined, without quotes.
 */
#define MAILPROOF_RECORDS_TEXT 1

/**
 * In `ttl_seconds`: the answer has no time to live, as a negative one without SOA; it is not kept.
 */
#define MAILPROOF_TTL_NONE UINT64_MAX

/**
 * Nobody who is trusted has validated the answer.
 */
#define MAILPROOF_AUTHENTIC_UNKNOWN 0

/**
 * A validator that is trusted says that the answer is signed (RFC 4035 section 4.9.3).
 */
#define MAILPROOF_AUTHENTIC_YES 1

/**
 * A validator that is trusted says that the answer is not signed.
 */
#define MAILPROOF_AUTHENTIC_NO 2

/**
 * In `layout`: on one line.
 */
#define MAILPROOF_LAYOUT_LINE 0

/**
 * In `layout`: a new line, CRLF and a tab, before each result, as short lines are asked for (RFC 5322 section 2.1.1).
 */
#define MAILPROOF_LAYOUT_FOLDED 1

/**
 * In `layout`: the same with LF alone, for programs that keep messages so.
 */
#define MAILPROOF_LAYOUT_FOLDED_LF 2

/**
 * The header is hashed as it is (RFC 6376 section 3.4.1); relaxed otherwise (section 3.4.2).
 */
#define MAILPROOF_SIGN_SIMPLE_HEADER 1

/**
 * The body is hashed as it is (RFC 6376 section 3.4.3); relaxed otherwise (section 3.4.4).
 */
#define MAILPROOF_SIGN_SIMPLE_BODY 2

/**
 * Messages come with LF at the end of their lines, as programs of Unix keep them. They are signed as they will be sent, with
 * CRLF, and the field has LF too.
 */
#define MAILPROOF_SIGN_LINE_ENDS_LF 4

/**
 * How a call ended. A number is never given another meaning, and later versions may add numbers. Out pointers are
 * written only where it is MAILPROOF_STATUS_OK.
 */
enum mailproof_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Done.
     */
    MAILPROOF_STATUS_OK = 0,
    /**
     * A pointer that must not be NULL is NULL.
     */
    MAILPROOF_STATUS_NULL_POINTER = 1,
    /**
     * A defect of the library: it stopped on its own side. mailproof_last_error() says which; the log callback is told too,
     * where the call has an engine, a session or a queue. What the call was working on can only be freed, a session also
     * restarted.
     */
    MAILPROOF_STATUS_DEFECT = 2,
    /**
     * A structure of a size that this version does not know: `size` was not set, or something is set that only a later
     * version has.
     */
    MAILPROOF_STATUS_BAD_SIZE = 3,
    /**
     * A text is no UTF-8, or a length is beyond all memory.
     */
    MAILPROOF_STATUS_BAD_TEXT = 4,
    /**
     * The address of the client can not be read.
     */
    MAILPROOF_STATUS_BAD_ADDRESS = 5,
    /**
     * A choice, a flag or a combination of options that there is not.
     */
    MAILPROOF_STATUS_BAD_OPTION = 6,
    /**
     * Not at this stage: see the order of calls of a session.
     */
    MAILPROOF_STATUS_WRONG_STATE = 7,
    /**
     * No DNS server is configured, or the system's configuration can not be read.
     */
    MAILPROOF_STATUS_NO_RESOLVER = 8,
    /**
     * The address of a DNS server can not be read.
     */
    MAILPROOF_STATUS_BAD_SERVER = 9,
    /**
     * The threads of the engine can not be started, or a descriptor can not be had.
     */
    MAILPROOF_STATUS_NO_DRIVER = 10,
    /**
     * A zone can not be read.
     */
    MAILPROOF_STATUS_BAD_ZONE = 11,
    /**
     * A file can not be read or written.
     */
    MAILPROOF_STATUS_FILE = 12,
    /**
     * No private key that can be used.
     */
    MAILPROOF_STATUS_BAD_KEY = 13,
    /**
     * No domain name.
     */
    MAILPROOF_STATUS_BAD_NAME = 14,
    /**
     * The message can not be signed.
     */
    MAILPROOF_STATUS_NOT_SIGNED = 15,
    /**
     * This build of the library leaves it out; see mailproof_features().
     */
    MAILPROOF_STATUS_UNSUPPORTED = 16,
    /**
     * There is nothing of this index.
     */
    MAILPROOF_STATUS_OUT_OF_RANGE = 17,
    /**
     * There is nothing to hand out at the moment.
     */
    MAILPROOF_STATUS_EMPTY = 18,
    /**
     * The question belongs to no message that is under way: the answer is late.
     */
    MAILPROOF_STATUS_UNKNOWN_QUESTION = 19,
    /**
     * The answer can not be read, or is one to another question. The question is still open.
     */
    MAILPROOF_STATUS_BAD_ANSWER = 20,
    /**
     * The answer was cut off; ask again over TCP. The question is still open.
     */
    MAILPROOF_STATUS_TRUNCATED = 21,
    /**
     * What was to be loaded is no dump of a cache.
     */
    MAILPROOF_STATUS_BAD_DUMP = 22,
    /**
     * The queue has no room for another message: drain it first.
     */
    MAILPROOF_STATUS_FULL = 23,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum mailproof_status mailproof_status;
#else
typedef uint32_t mailproof_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * How far a session is.
 */
enum mailproof_progress
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * More octets of the message, or its end, are needed.
     */
    MAILPROOF_PROGRESS_NEEDS_MESSAGE = 0,
    /**
     * Answers are needed: the message has ended, and questions are open.
     */
    MAILPROOF_PROGRESS_NEEDS_ANSWERS = 1,
    /**
     * The verdict stands: mailproof_session_finish() gives it without waiting.
     */
    MAILPROOF_PROGRESS_DONE = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum mailproof_progress mailproof_progress;
#else
typedef uint32_t mailproof_progress;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The results of SPF (RFC 7208 section 2.6).
 */
enum mailproof_spf_result
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * No record, or nothing to look one up for.
     */
    MAILPROOF_SPF_RESULT_NONE = 0,
    /**
     * The owner asserts nothing.
     */
    MAILPROOF_SPF_RESULT_NEUTRAL = 1,
    /**
     * The client is authorised.
     */
    MAILPROOF_SPF_RESULT_PASS = 2,
    /**
     * The client is not authorised.
     */
    MAILPROOF_SPF_RESULT_FAIL = 3,
    /**
     * The client is probably not authorised.
     */
    MAILPROOF_SPF_RESULT_SOFT_FAIL = 4,
    /**
     * A DNS error that may pass.
     */
    MAILPROOF_SPF_RESULT_TEMP_ERROR = 5,
    /**
     * A record that can not be interpreted.
     */
    MAILPROOF_SPF_RESULT_PERM_ERROR = 6,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum mailproof_spf_result mailproof_spf_result;
#else
typedef uint32_t mailproof_spf_result;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What the configured policy would do with the message.
 */
enum mailproof_action
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Deliver it.
     */
    MAILPROOF_ACTION_ACCEPT = 0,
    /**
     * Deliver it as suspicious.
     */
    MAILPROOF_ACTION_QUARANTINE = 1,
    /**
     * Refuse it for good.
     */
    MAILPROOF_ACTION_REJECT = 2,
    /**
     * Refuse it for now.
     */
    MAILPROOF_ACTION_DEFER = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum mailproof_action mailproof_action;
#else
typedef uint32_t mailproof_action;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The results of DKIM (RFC 8601 section 2.7.1).
 */
enum mailproof_dkim_result
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Not signed.
     */
    MAILPROOF_DKIM_RESULT_NONE = 0,
    /**
     * Verified.
     */
    MAILPROOF_DKIM_RESULT_PASS = 1,
    /**
     * The body hash or the signature does not match.
     */
    MAILPROOF_DKIM_RESULT_FAIL = 2,
    /**
     * Verified, but not acceptable here.
     */
    MAILPROOF_DKIM_RESULT_POLICY = 3,
    /**
     * Signed, but the signature could not be read.
     */
    MAILPROOF_DKIM_RESULT_NEUTRAL = 4,
    /**
     * The key could not be fetched for now.
     */
    MAILPROOF_DKIM_RESULT_TEMP_ERROR = 5,
    /**
     * The signature can never verify.
     */
    MAILPROOF_DKIM_RESULT_PERM_ERROR = 6,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum mailproof_dkim_result mailproof_dkim_result;
#else
typedef uint32_t mailproof_dkim_result;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The results of ARC (RFC 8617 section 4.4).
 */
enum mailproof_arc_result
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * No chain.
     */
    MAILPROOF_ARC_RESULT_NONE = 0,
    /**
     * The chain validates.
     */
    MAILPROOF_ARC_RESULT_PASS = 1,
    /**
     * It does not; it then counts as absent.
     */
    MAILPROOF_ARC_RESULT_FAIL = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum mailproof_arc_result mailproof_arc_result;
#else
typedef uint32_t mailproof_arc_result;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The results of DMARC (RFC 9989 section 9.2).
 */
enum mailproof_dmarc_result
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * No policy applies.
     */
    MAILPROOF_DMARC_RESULT_NONE = 0,
    /**
     * An aligned mechanism passed.
     */
    MAILPROOF_DMARC_RESULT_PASS = 1,
    /**
     * None did.
     */
    MAILPROOF_DMARC_RESULT_FAIL = 2,
    /**
     * A DNS error that may pass stood in the way.
     */
    MAILPROOF_DMARC_RESULT_TEMP_ERROR = 3,
    /**
     * A record or From field that can not be used.
     */
    MAILPROOF_DMARC_RESULT_PERM_ERROR = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum mailproof_dmarc_result mailproof_dmarc_result;
#else
typedef uint32_t mailproof_dmarc_result;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The handling that a domain owner asks for (RFC 9989 section 4.7).
 */
enum mailproof_policy
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * There is no policy.
     */
    MAILPROOF_POLICY_ABSENT = 0,
    /**
     * No handling beyond reporting.
     */
    MAILPROOF_POLICY_NONE = 1,
    /**
     * Treat as suspicious.
     */
    MAILPROOF_POLICY_QUARANTINE = 2,
    /**
     * Refuse.
     */
    MAILPROOF_POLICY_REJECT = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum mailproof_policy mailproof_policy;
#else
typedef uint32_t mailproof_policy;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The tag of a DMARC record that gave the policy (RFC 9989 section 4.7).
 */
enum mailproof_policy_tag
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * There is no policy.
     */
    MAILPROOF_POLICY_TAG_ABSENT = 0,
    /**
     * `p`
     */
    MAILPROOF_POLICY_TAG_P = 1,
    /**
     * `sp`
     */
    MAILPROOF_POLICY_TAG_SP = 2,
    /**
     * `np`
     */
    MAILPROOF_POLICY_TAG_NP = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum mailproof_policy_tag mailproof_policy_tag;
#else
typedef uint32_t mailproof_policy_tag;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * How the Organizational Domain is found.
 */
enum mailproof_discovery
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * RFC 9989 section 4.10.
     */
    MAILPROOF_DISCOVERY_TREE_WALK = 0,
    /**
     * RFC 7489 section 3.2.
     */
    MAILPROOF_DISCOVERY_PUBLIC_SUFFIX_LIST = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum mailproof_discovery mailproof_discovery;
#else
typedef uint32_t mailproof_discovery;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * How an identifier aligned (RFC 9989 section 4.4).
 */
enum mailproof_alignment
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * It did not, or did not pass.
     */
    MAILPROOF_ALIGNMENT_ABSENT = 0,
    /**
     * Same Organizational Domain.
     */
    MAILPROOF_ALIGNMENT_RELAXED = 1,
    /**
     * Same domain.
     */
    MAILPROOF_ALIGNMENT_STRICT = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum mailproof_alignment mailproof_alignment;
#else
typedef uint32_t mailproof_alignment;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Whom the message says it is from (RFC 9989 section 5.3.1).
 */
enum mailproof_author_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * One domain.
     */
    MAILPROOF_AUTHOR_KIND_ONE = 0,
    /**
     * More than one domain.
     */
    MAILPROOF_AUTHOR_KIND_SEVERAL = 1,
    /**
     * No domain that every reader of the message would see.
     */
    MAILPROOF_AUTHOR_KIND_UNUSABLE = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum mailproof_author_kind mailproof_author_kind;
#else
typedef uint32_t mailproof_author_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Verifies messages. Holds the options, the DNS cache, and the threads that ask the DNS where there are any. May be used
 * from any number of threads at once; one engine for the whole process is best, since it is the cache that saves time.
 *
 * Sessions and queues keep what they need of it: it may be freed before them.
 *
 * An engine with threads does not survive fork(): in the child it and what was made of it may be freed, and nothing else,
 * since a thread that the child does not have may hold what a call would wait for. Make the engine after the fork.
 *
 * Its threads take no signals of the process. Memory that can not be had ends the process, as in most libraries.
 */
typedef struct mailproof_engine mailproof_engine;

/**
 * Way three: takes messages without waiting, has them verified by the threads of the engine, and tells by a descriptor when
 * verdicts are there. May be used from any number of threads at once. With a zone, or the caller's DNS, there are no
 * threads, and a message is verified when it is submitted. After a fork() it is of use to the process that made it alone:
 * MAILPROOF_STATUS_WRONG_STATE in a child, where it can only be freed.
 */
typedef struct mailproof_queue mailproof_queue;

/**
 * A message that arrives piece by piece. It holds the header block and hash states, whatever the size of the body.
 *
 * One thread at a time may use a session; any number of sessions may be under way, on one thread or on many, and a session
 * may move from thread to thread. The order of calls: mailproof_session_new() or _restart(); then either _push() with the
 * octets of the message cut anywhere, or _field() for each header field, _end_of_fields(), and _push() for the body; then
 * _end() or _finish(). With MAILPROOF_DNS_CALLER, _poll(), _next_question() and _answer() go between and after these.
 */
typedef struct mailproof_session mailproof_session;

/**
 * Signs messages with one key. It never changes, so any number of threads may use it at once.
 */
typedef struct mailproof_signer mailproof_signer;

/**
 * The verdict on one message. It never changes, so any number of threads may read it at once. It belongs to the caller,
 * depends on nothing that it came from, and is freed with mailproof_verdict_free(). Every text read out of it is UTF-8,
 * ends with NUL, belongs to the verdict and is good until that is freed; a NUL that someone wrote into a message stands
 * there as U+FFFD. Much of the text was written by strangers.
 */
typedef struct mailproof_verdict mailproof_verdict;

/**
 * Names with their records, in the place of the DNS. One thread at a time while names are added; an engine takes a copy.
 */
typedef struct mailproof_zone mailproof_zone;

/**
 * Takes one message of the log: one line of UTF-8 without a line end, good until the callback returns. It is called on
 * the thread that has called the library, before that call returns, so from several threads at once where several call.
 * It must return by itself: no longjmp, no C++ exception. It must not call the library.
 */
typedef void (*mailproof_log_callback)(void *context, uint32_t level, const char *text);

/**
 * What an engine is made of. Fill it with mailproof_engine_options_init(), then change what should be different. All
 * members but `size` may be zero. Texts and lists need to be good during mailproof_engine_new() only.
 */
typedef struct mailproof_engine_options {
    /**
     * sizeof(mailproof_engine_options).
     */
    size_t size;
    /**
     * MAILPROOF_DEFER_ON_TEMPERROR and others, added up.
     */
    uint64_t flags;
    /**
     * The name of the receiver in Authentication-Results (RFC 8601 section 2.5); NULL for `localhost`.
     */
    const char *authserv_id;
    /**
     * MAILPROOF_DNS_SYSTEM, _SERVERS, _ZONE or _CALLER.
     */
    uint32_t dns;
    /**
     * MAILPROOF_POLICY_9989, _7489, or 0 for the first.
     */
    uint32_t policy;
    /**
     * With MAILPROOF_DNS_SERVERS: `IP`, `IP:PORT` or `[IP]:PORT`, with `#NAME` after it for DNS over TLS where the build
     * has that.
     */
    const char *const *servers;
    /**
     * How many `servers` there are; those after the eighth are left out.
     */
    size_t server_count;
    /**
     * With MAILPROOF_DNS_ZONE: the zone, of which a copy is taken.
     */
    const struct mailproof_zone *zone;
    /**
     * Threads of the engine, 1024 at the most; 0 for one a processor. Each has up to 64 sockets for each server, all
     * together no more than a quarter of the descriptors that the process may have (RLIMIT_NOFILE).
     */
    uint32_t threads;
    /**
     * MAILPROOF_BACKEND_AUTO, _URING or _EPOLL.
     */
    uint32_t backend;
    /**
     * Octets of the DNS cache; 0 for 64 MiB, MAILPROOF_CACHE_NONE for no cache.
     */
    uint64_t cache_bytes;
    /**
     * Seconds for which an answer may serve past its end while no server gives a new one (RFC 8767); 0 for none.
     */
    uint64_t cache_stale_seconds;
    /**
     * Seconds since 1970 as of which every message is judged: for replays and tests. 0 for the clock of the system.
     */
    uint64_t now_seconds;
    /**
     * Is told what the engine has to say; NULL for nobody.
     */
    mailproof_log_callback log;
    /**
     * The first argument of `log`.
     */
    void *log_context;
} mailproof_engine_options;

/**
 * What the DNS cache has done, and what it holds.
 */
typedef struct mailproof_cache_statistics {
    /**
     * Questions it answered.
     */
    uint64_t hits;
    /**
     * Questions it did not.
     */
    uint64_t misses;
    /**
     * Answers it took in.
     */
    uint64_t inserts;
    /**
     * Entries that had to make room.
     */
    uint64_t evictions;
    /**
     * Entries it holds, those whose time is over included.
     */
    uint64_t entries;
    /**
     * Octets it holds, an estimate.
     */
    uint64_t bytes;
} mailproof_cache_statistics;

/**
 * What the DNS client of an engine has done; all zero without one.
 */
typedef struct mailproof_network_statistics {
    /**
     * Questions that went to the servers.
     */
    uint64_t lookups;
    /**
     * Questions that were on their way already.
     */
    uint64_t joined;
    /**
     * Datagrams sent.
     */
    uint64_t udp_queries;
    /**
     * Queries sent over connections.
     */
    uint64_t tcp_queries;
    /**
     * Replies that matched no query: late, or forged. None of them was believed.
     */
    uint64_t unmatched;
    /**
     * Tries that a server let pass without a reply.
     */
    uint64_t silent_tries;
    /**
     * Questions that had no answer in the end.
     */
    uint64_t failures;
    /**
     * Questions that failed because too many were waiting.
     */
    uint64_t turned_away;
    /**
     * Answers fetched again before they expired.
     */
    uint64_t prefetches;
} mailproof_network_statistics;

/**
 * What came of loading a dump of the cache.
 */
typedef struct mailproof_cache_loaded {
    /**
     * Entries that are in the cache now.
     */
    uint64_t kept;
    /**
     * Entries left out because the cache knew a newer answer.
     */
    uint64_t known;
    /**
     * Entries whose time was over.
     */
    uint64_t expired;
    /**
     * Lines that are no entry.
     */
    uint64_t bad;
    /**
     * 1 when the dump is larger than the cache could hold, and its rest was not read.
     */
    uint64_t is_cut;
} mailproof_cache_loaded;

/**
 * What SMTP said before the message. All members but `size` may be zero. The texts are copied: they need to be good
 * during the call only.
 */
typedef struct mailproof_envelope {
    /**
     * sizeof(mailproof_envelope).
     */
    size_t size;
    /**
     * Address of the SMTP client as text, without brackets. Without an address there is no SPF.
     */
    const char *ip;
    /**
     * The address as octets in network order instead, as in sin_addr or sin6_addr; counts before `ip`.
     */
    const uint8_t *ip_octets;
    /**
     * 4 or 16, with `ip_octets`.
     */
    size_t ip_length;
    /**
     * Argument of HELO or EHLO.
     */
    const char *helo;
    /**
     * Argument of MAIL FROM without angle brackets; NULL or "" for the null reverse-path.
     */
    const char *mail_from;
    /**
     * MAILPROOF_LINE_ENDS_LF or 0.
     */
    uint64_t flags;
} mailproof_envelope;

/**
 * SPF of one identity (RFC 7208).
 */
typedef struct mailproof_spf {
    /**
     * The result.
     */
    mailproof_spf_result result;
    /**
     * Terms that caused queries (section 4.6.4).
     */
    uint32_t lookup_count;
    /**
     * Void lookups (section 4.6.4).
     */
    uint32_t void_lookup_count;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * The word of the result (RFC 8601 section 2.7.2).
     */
    const char *word;
    /**
     * The domain that was checked; NULL when it was none.
     */
    const char *domain;
    /**
     * Why, for an error or none: a stable word; NULL when there is nothing to say.
     */
    const char *problem;
    /**
     * The same for people.
     */
    const char *problem_text;
    /**
     * What the owner of the domain says about a fail (section 6.2); NULL without. Written by strangers.
     */
    const char *explanation;
    /**
     * The term that decided; NULL when none matched.
     */
    const char *mechanism;
} mailproof_spf;

/**
 * A question to the DNS, class IN.
 */
typedef struct mailproof_question {
    /**
     * What the answer is given by. Never the same twice in the life of a session, so an answer that comes too late meets no
     * other question.
     */
    uint64_t id;
    /**
     * The name in the form of master files (RFC 1035 section 5.1), without a final dot. Belongs to the session, and is good
     * until that is restarted or freed.
     */
    const char *name;
    /**
     * The record type, as in ns_t_txt: 1 A, 12 PTR, 15 MX, 16 TXT, 28 AAAA.
     */
    uint64_t record_type;
} mailproof_question;

/**
 * One record of an answer.
 */
typedef struct mailproof_record {
    /**
     * Its octets, in the form that the answer names.
     */
    const void *octets;
    /**
     * How many.
     */
    size_t length;
} mailproof_record;

/**
 * The answer to a question, without the CNAME records that led to it. Copied: it needs to be good during the call only.
 */
typedef struct mailproof_answer {
    /**
     * sizeof(mailproof_answer).
     */
    size_t size;
    /**
     * MAILPROOF_ANSWER_RECORDS or another.
     */
    uint32_t outcome;
    /**
     * MAILPROOF_RECORDS_WIRE or _TEXT.
     */
    uint32_t form;
    /**
     * With MAILPROOF_ANSWER_RECORDS, one or more.
     */
    const struct mailproof_record *records;
    /**
     * How many.
     */
    size_t record_count;
    /**
     * Seconds the answer may be kept, or MAILPROOF_TTL_NONE.
     */
    uint64_t ttl_seconds;
    /**
     * MAILPROOF_AUTHENTIC_UNKNOWN, _YES or _NO.
     */
    uint32_t authentic;
    /**
     * Zero.
     */
    uint32_t reserved;
} mailproof_answer;

/**
 * A message that was submitted, with its verdict.
 */
typedef struct mailproof_completion {
    /**
     * What the caller named the message.
     */
    uint64_t token;
    /**
     * Its verdict, which belongs to the caller: mailproof_verdict_free(). NULL when a defect of the library was met in this
     * message; the log callback is told, and other messages go on.
     */
    struct mailproof_verdict *verdict;
} mailproof_completion;

/**
 * The client as it was judged.
 */
typedef struct mailproof_client {
    /**
     * Its address as text; NULL when none was given.
     */
    const char *ip;
    /**
     * 1 when MAIL FROM was the null reverse-path, so that SPF is of the HELO name (RFC 7208 section 2.4).
     */
    uint64_t null_reverse_path;
} mailproof_client;

/**
 * One DKIM signature (RFC 6376).
 */
typedef struct mailproof_dkim {
    /**
     * The result.
     */
    mailproof_dkim_result result;
    /**
     * Bits of the public key that was used; 0 when none was.
     */
    uint32_t key_bits;
    /**
     * 1 when the key says `t=y` (section 3.6.1).
     */
    uint32_t testing;
    /**
     * 1 when the key verifies the signature over this header, whatever else is wrong.
     */
    uint32_t header_holds;
    /**
     * The word of the result (RFC 8601 section 2.7.1).
     */
    const char *word;
    /**
     * Why, when it is not a plain pass: a stable word; NULL when there is nothing to say.
     */
    const char *problem;
    /**
     * The same for people.
     */
    const char *problem_text;
    /**
     * `d=`; NULL when it could not be read. So are the next three.
     */
    const char *domain;
    /**
     * `s=` as written.
     */
    const char *selector;
    /**
     * `i=` as written, or `@` and the domain.
     */
    const char *identity;
    /**
     * `a=` as written.
     */
    const char *algorithm;
    /**
     * The first characters of `b=` (RFC 6008); NULL when it could not be read.
     */
    const char *b;
    /**
     * `t=`, seconds since 1970; -1 without.
     */
    int64_t signed_at;
    /**
     * `x=`, seconds since 1970; -1 without.
     */
    int64_t expires_at;
    /**
     * Octets of the canonical body that the signature covers.
     */
    uint64_t body_covered;
    /**
     * Octets of the canonical body.
     */
    uint64_t body_total;
} mailproof_dkim;

/**
 * The ARC chain (RFC 8617).
 */
typedef struct mailproof_arc {
    /**
     * The result.
     */
    mailproof_arc_result result;
    /**
     * Sets found.
     */
    uint32_t instances;
    /**
     * `header.oldest-pass` (section 5.2): 0 when every message signature verifies; -1 when it was not found out.
     */
    int32_t oldest_pass;
    /**
     * Seals that mailproof_verdict_arc_sealer() gives out.
     */
    uint32_t sealer_count;
    /**
     * The word of the result.
     */
    const char *word;
    /**
     * Why the chain failed: a stable word; NULL when it did not.
     */
    const char *problem;
    /**
     * The same for people.
     */
    const char *problem_text;
} mailproof_arc;

/**
 * Who made one seal of an ARC chain.
 */
typedef struct mailproof_arc_sealer {
    /**
     * `d=`
     */
    const char *domain;
    /**
     * `s=`
     */
    const char *selector;
} mailproof_arc_sealer;

/**
 * DMARC (RFC 9989).
 */
typedef struct mailproof_dmarc {
    /**
     * The result.
     */
    mailproof_dmarc_result result;
    /**
     * The policy that applies to a failing message: after sp, np and t.
     */
    mailproof_policy policy;
    /**
     * The tag it came from.
     */
    mailproof_policy_tag applies;
    /**
     * What the policy asks for this message: none unless the result is fail.
     */
    mailproof_policy disposition;
    /**
     * How the Organizational Domain was found.
     */
    mailproof_discovery discovery;
    /**
     * How SPF aligned, when it did with a pass.
     */
    mailproof_alignment spf_aligned;
    /**
     * How DKIM aligned, when it did with a pass.
     */
    mailproof_alignment dkim_aligned;
    /**
     * 1 for `t=y`.
     */
    uint32_t testing;
    /**
     * The word of the result.
     */
    const char *word;
    /**
     * The Author Domain; NULL when there is no single one.
     */
    const char *from_domain;
    /**
     * Its Organizational Domain; NULL when it was not needed.
     */
    const char *organizational_domain;
    /**
     * Where the record that applies was found; NULL when none was.
     */
    const char *policy_domain;
    /**
     * Why there is no pass or fail: a stable word; NULL when there is.
     */
    const char *problem;
    /**
     * The same for people.
     */
    const char *problem_text;
} mailproof_dmarc;

/**
 * Whom the message says it is from.
 */
typedef struct mailproof_author {
    /**
     * How many there are.
     */
    mailproof_author_kind kind;
    /**
     * Domains that mailproof_verdict_author_domain() gives out.
     */
    uint32_t domain_count;
    /**
     * Why there is none: a stable word; NULL when there is one.
     */
    const char *problem;
    /**
     * The same for people.
     */
    const char *problem_text;
} mailproof_author;

/**
 * What is wrong with the octets of the message, counted.
 */
typedef struct mailproof_defects {
    /**
     * CR not followed by LF.
     */
    uint32_t bare_cr;
    /**
     * LF not preceded by CR.
     */
    uint32_t bare_lf;
    /**
     * NUL octets.
     */
    uint32_t nul;
    /**
     * Lines of the header block that are neither a field nor the continuation of one.
     */
    uint32_t garbage_lines;
    /**
     * Instances beyond the first of fields that may stand once (RFC 5322 section 3.6).
     */
    uint32_t repeated_singletons;
    /**
     * Fields longer than what is read.
     */
    uint32_t oversize_fields;
    /**
     * 1 when the header block has more octets or fields than are looked at.
     */
    uint32_t header_over_limit;
    /**
     * Zero.
     */
    uint32_t reserved;
} mailproof_defects;

/**
 * How a signer signs. All members but `size`, `domain` and `selector` may be zero. Copied: it needs to be good during
 * mailproof_signer_new() only.
 */
typedef struct mailproof_signer_options {
    /**
     * sizeof(mailproof_signer_options).
     */
    size_t size;
    /**
     * MAILPROOF_SIGN_SIMPLE_HEADER and others, added up.
     */
    uint64_t flags;
    /**
     * `d=`, of two labels or more.
     */
    const char *domain;
    /**
     * `s=`
     */
    const char *selector;
    /**
     * `i=`; NULL leaves it out.
     */
    const char *identity;
    /**
     * Names of the fields to sign, From among them; NULL for those of RFC 6376 section 5.4.1, the most important of which no
     * further instance can then be added of.
     */
    const char *const *names;
    /**
     * How many.
     */
    size_t name_count;
    /**
     * `x=` is so many seconds after `t=`; 0 leaves it out.
     */
    uint64_t expire_seconds;
    /**
     * `t=`, seconds since 1970; 0 for the clock of the system.
     */
    uint64_t now_seconds;
} mailproof_signer_options;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the library, as in "1.2.3". A constant of the library. From any thread.
 */
const char *mailproof_version(void);

/**
 * What this build of the library has: MAILPROOF_FEATURE_NETWORK and others, added up. The functions of what it leaves out
 * are there, and answer with MAILPROOF_STATUS_UNSUPPORTED. From any thread.
 */
uint32_t mailproof_features(void);

/**
 * What a status means, in English. Never NULL; a constant of the library. May be called from any thread.
 */
const char *mailproof_status_text(uint32_t status);

/**
 * What was wrong with the last call of this thread that did not end with MAILPROOF_STATUS_OK, in English, with the file
 * and line or the server at fault where there is one. Never NULL; empty before the first such call. It may hold text
 * that came from outside. The text belongs to the library and is good until the next call of the same thread.
 */
const char *mailproof_last_error(void);

/**
 * Makes a zone in which no name exists. It belongs to the caller: mailproof_zone_free().
 *
 * MAILPROOF_STATUS_UNSUPPORTED in a build without zone files.
 */
mailproof_status mailproof_zone_new(struct mailproof_zone **zone);

/**
 * Adds the names of a file, in place of those that are there: a master file (RFC 1035) when its name ends in `.zone`, else
 * YAML. After a failure the zone may hold some of them.
 *
 * MAILPROOF_STATUS_BAD_ZONE when it can not be read; mailproof_last_error() tells the line or the name.
 */
mailproof_status mailproof_zone_add_file(struct mailproof_zone *zone,
                                         const char *path);

/**
 * Adds the names of a text of `length` octets, in place of those that are there. `form` is MAILPROOF_ZONE_YAML or
 * MAILPROOF_ZONE_MASTER. The text is not kept. After a failure the zone may hold some of the names.
 *
 * MAILPROOF_STATUS_BAD_ZONE when it can not be read; mailproof_last_error() tells the line or the name.
 */
mailproof_status mailproof_zone_add_text(struct mailproof_zone *zone, const void *text, size_t length, uint32_t form);

/**
 * Frees a zone; NULL is fine. Engines that were made of it are not touched.
 */
void mailproof_zone_free(struct mailproof_zone *zone);

/**
 * Fills in the defaults: the DNS of the system, RFC 9989, a cache of 64 MiB, no log. `size` is
 * sizeof(mailproof_engine_options).
 */
mailproof_status mailproof_engine_options_init(size_t size, struct mailproof_engine_options *options);

/**
 * Makes an engine, and starts its threads where it asks the DNS itself. It belongs to the caller: mailproof_engine_free().
 * May be called from any thread.
 *
 * MAILPROOF_STATUS_BAD_OPTION, _BAD_TEXT, _BAD_SIZE, _BAD_SERVER for options that can not be; _NO_RESOLVER when the system
 * names no server; _NO_DRIVER when threads or descriptors can not be had; _UNSUPPORTED for what the build leaves out.
 */
mailproof_status mailproof_engine_new(const struct mailproof_engine_options *options,
                                      struct mailproof_engine **engine);

/**
 * Frees an engine; NULL is fine. Its threads end when the last session and the last queue are freed too; whichever of these
 * calls is the last waits for them: for messages of queues up to 30 seconds, for other questions that are on their way up
 * to 6. mailproof_engine_shut_down() before it bounds that. The engine must not be in use by another thread.
 */
void mailproof_engine_free(struct mailproof_engine *engine);

/**
 * Ends the threads of an engine: they finish what they have, for no longer than `within_ms` milliseconds. Waits for that.
 * From then on questions to the network fail. May be called from any thread, and again; without threads it does nothing.
 */
mailproof_status mailproof_engine_shut_down(const struct mailproof_engine *engine,
                                            uint64_t within_ms);

/**
 * What the threads of the engine do input and output by: "io_uring", "epoll", or "none" without threads. `reason` is why
 * it is not io_uring, or "". Both texts belong to the engine. Either out pointer may be NULL. From any thread.
 */
mailproof_status mailproof_engine_backend(const struct mailproof_engine *engine,
                                          const char **name,
                                          const char **reason);

/**
 * The figures of the DNS cache. `size` is sizeof(mailproof_cache_statistics). From any thread.
 */
mailproof_status mailproof_engine_cache_statistics(const struct mailproof_engine *engine,
                                                   size_t size,
                                                   struct mailproof_cache_statistics *statistics);

/**
 * The figures of the DNS client. `size` is sizeof(mailproof_network_statistics). From any thread.
 */
mailproof_status mailproof_engine_network_statistics(const struct mailproof_engine *engine,
                                                     size_t size,
                                                     struct mailproof_network_statistics *statistics);

/**
 * Forgets what the cache knows of one name. `count`, which may be NULL, becomes the number of answers there were. From
 * any thread; sessions under way keep the answers they have.
 */
mailproof_status mailproof_engine_purge(const struct mailproof_engine *engine, const char *name, size_t *count);

/**
 * Writes the cache into a file, for mailproof_engine_load_cache() after the next start. It takes the place of one that is
 * there once it is whole, by way of the same name with `.new` behind it. Only its owner may read and write it: whoever may
 * change it decides what the engine believes for up to a day. `count`, which may be NULL, becomes the number of answers.
 * From any thread, one at a time for each path.
 */
mailproof_status mailproof_engine_dump_cache(const struct mailproof_engine *engine,
                                             const char *path,
                                             uint64_t *count);

/**
 * Takes in what mailproof_engine_dump_cache() wrote, without what has expired meanwhile. `loaded`, of `size` octets, may be
 * NULL. From any thread.
 *
 * MAILPROOF_STATUS_FILE when the file can not be read, _BAD_DUMP when it is none.
 */
mailproof_status mailproof_engine_load_cache(const struct mailproof_engine *engine,
                                             const char *path,
                                             size_t size,
                                             struct mailproof_cache_loaded *loaded);

/**
 * Way one: verifies a whole message of `length` octets, header block, empty line and body, and makes its verdict, which
 * belongs to the caller: mailproof_verdict_free(). The message is not kept. Whatever its octets are, there is a verdict.
 *
 * Waits for the DNS where the cache has no answer, never longer than 30 seconds. With MAILPROOF_DNS_CALLER only the cache
 * answers, and every other question fails. From any thread, several at once.
 */
mailproof_status mailproof_verify(const struct mailproof_engine *engine,
                                  const void *message,
                                  size_t length,
                                  const struct mailproof_envelope *envelope,
                                  struct mailproof_verdict **verdict);

/**
 * Verifies a whole message as mailproof_verify() does, and tells for people how the verdict came about: every question with
 * its answer, what was hashed, and why it ended so. `is_full` other than 0 shows long texts of the DNS whole. The text, of
 * many lines, belongs to the caller: mailproof_text_free(). From any thread, several at once.
 *
 * MAILPROOF_STATUS_UNSUPPORTED in a build without it.
 */
mailproof_status mailproof_explain(const struct mailproof_engine *engine,
                                   const void *message,
                                   size_t length,
                                   const struct mailproof_envelope *envelope,
                                   uint32_t is_full,
                                   char **text);

/**
 * Ways two and four: starts on a message, and on the questions of SPF. The session belongs to the caller:
 * mailproof_session_free(). From any thread.
 */
mailproof_status mailproof_session_new(const struct mailproof_engine *engine,
                                       const struct mailproof_envelope *envelope,
                                       struct mailproof_session **session);

/**
 * Forgets the message, at whatever stage it is, and starts on the next one with the memory of this one.
 */
mailproof_status mailproof_session_restart(struct mailproof_session *session,
                                           const struct mailproof_envelope *envelope);

/**
 * Takes one whole header field, `Name: value` with its folding, with or without the line end behind it. The octets are not
 * kept by reference. MAILPROOF_STATUS_WRONG_STATE after mailproof_session_push() or _end_of_fields().
 */
mailproof_status mailproof_session_field(struct mailproof_session *session,
                                         const void *field,
                                         size_t length);

/**
 * The header is complete: the body comes next, with mailproof_session_push(). Only after mailproof_session_field(), or as
 * the first call for a message without header.
 */
mailproof_status mailproof_session_end_of_fields(struct mailproof_session *session);

/**
 * Takes the next octets of the message, cut anywhere: header block, empty line and body; or of the body, after
 * mailproof_session_end_of_fields(). The octets are not kept by reference. Never waits.
 */
mailproof_status mailproof_session_push(struct mailproof_session *session, const void *octets, size_t length);

/**
 * The message is complete. Never waits. mailproof_session_finish() does it too; with MAILPROOF_DNS_CALLER it goes before
 * the questions that are left.
 */
mailproof_status mailproof_session_end(struct mailproof_session *session);

/**
 * Goes on as far as the message and the answers at hand allow; never waits. `wait_ms`, which may be NULL, becomes the
 * milliseconds after which to poll again at the latest when answers are needed: what is open then counts as failed (RFC
 * 7208 section 4.6.4 for SPF, 30 seconds for the whole message). It is 0 otherwise.
 *
 * For engines with MAILPROOF_DNS_CALLER or _ZONE; MAILPROOF_STATUS_WRONG_STATE with others, whose threads have the answers,
 * and after mailproof_session_finish().
 */
mailproof_status mailproof_session_poll(struct mailproof_session *session,
                                        mailproof_progress *progress,
                                        uint64_t *wait_ms);

/**
 * Counts every open question as failed: nobody is going to answer it. Poll next.
 */
mailproof_status mailproof_session_give_up(struct mailproof_session *session);

/**
 * Ends the message if that has not been done, and makes its verdict, which belongs to the caller: mailproof_verdict_free().
 * Waits for the engine's DNS where answers are on their way, never longer than 30 seconds; with MAILPROOF_DNS_CALLER it
 * never waits, and what is open counts as failed. Where a thread serves many messages and the DNS is the engine's,
 * mailproof_queue_finish() does not wait.
 *
 * Once a message; afterwards the session can be restarted or freed.
 */
mailproof_status mailproof_session_finish(struct mailproof_session *session,
                                          struct mailproof_verdict **verdict);

/**
 * SPF of MAIL FROM as soon as it is known, which may be before the first octet of the message: what a server needs that
 * wants to refuse at MAIL FROM. Never waits; MAILPROOF_STATUS_EMPTY while it is not known.
 */
mailproof_status mailproof_session_spf(struct mailproof_session *session, mailproof_spf_result *result);

/**
 * SPF of MAIL FROM with all that there is to say about it, as soon as it is known, as mailproof_session_spf() has it: the
 * reply to a refused MAIL FROM quotes the explanation of the domain (RFC 7208 section 6.2). `size` is sizeof(mailproof_spf).
 * The texts belong to the session and are good until the next call of this function or of mailproof_session_helo(), or until
 * the session is freed. Never waits; MAILPROOF_STATUS_EMPTY while it is not known.
 */
mailproof_status mailproof_session_mail_from(struct mailproof_session *session,
                                             size_t size,
                                             struct mailproof_spf *spf);

/**
 * SPF of the HELO name, as mailproof_session_mail_from() has that of MAIL FROM (RFC 7208 section 2.3).
 */
mailproof_status mailproof_session_helo(struct mailproof_session *session, size_t size, struct mailproof_spf *spf);

/**
 * Whether the body is of use: false once the header has shown that no result depends on it, so that it need not be passed
 * in. Defects of its octets are not counted then.
 */
mailproof_status mailproof_session_wants_body(const struct mailproof_session *session,
                                              bool *wants);

/**
 * Frees a session at whatever stage it is; NULL is fine. Answers that are on their way go into the cache.
 */
void mailproof_session_free(struct mailproof_session *session);

/**
 * Way four: the next question of the session that the cache has no answer to; each is given out once. Questions come up in
 * mailproof_session_poll(), before the message has ended already, and again after answers. Any number may be open, and
 * their answers may come in any order. `size` is sizeof(mailproof_question).
 *
 * MAILPROOF_STATUS_EMPTY when there is none at the moment, _WRONG_STATE when the engine is not of MAILPROOF_DNS_CALLER.
 */
mailproof_status mailproof_session_next_question(struct mailproof_session *session,
                                                 size_t size,
                                                 struct mailproof_question *question);

/**
 * Way four: the answer to a question; the first one counts. It goes into the cache of the engine too. Poll next.
 *
 * MAILPROOF_STATUS_UNKNOWN_QUESTION when the message of the question is over: nothing is lost by that. _BAD_ANSWER or
 * _BAD_OPTION when the answer can not be read; the question is still open then.
 */
mailproof_status mailproof_session_answer(struct mailproof_session *session,
                                          uint64_t id,
                                          const struct mailproof_answer *answer);

/**
 * Way four: the answer to a question as a whole DNS message of `length` octets, as a resolver sent it, CNAME records
 * included (RFC 1035 section 4). That it came from the resolver is for the caller to know; that it is for this question is
 * looked at. `trusts_ad` says that its AD bit may be believed (RFC 4035 section 4.9.3).
 *
 * MAILPROOF_STATUS_TRUNCATED when TC is set: ask over TCP. _BAD_ANSWER when it can not be read, is for another question, or
 * ends on a CNAME that the resolver did not follow. The question is still open then.
 */
mailproof_status mailproof_session_answer_message(struct mailproof_session *session,
                                                  uint64_t id,
                                                  const void *message,
                                                  size_t length,
                                                  uint32_t trusts_ad);

/**
 * Puts an answer into the cache of an engine as if it had just been fetched, for every session to come: names known before,
 * or found by other means. `record_type` is as in mailproof_question. From any thread.
 */
mailproof_status mailproof_engine_remember(const struct mailproof_engine *engine,
                                           const char *name,
                                           uint32_t record_type,
                                           const struct mailproof_answer *answer);

/**
 * Way three: makes a queue for up to `capacity` messages that have not been drained, 0 for 4096. It belongs to the caller:
 * mailproof_queue_free(). From any thread.
 *
 * MAILPROOF_STATUS_NO_DRIVER when the process has no descriptor left.
 */
mailproof_status mailproof_queue_new(const struct mailproof_engine *engine,
                                     size_t capacity,
                                     struct mailproof_queue **queue);

/**
 * Has a whole message of `length` octets verified; `token` comes back with its verdict. The message is copied. Never waits
 * for the DNS. From any thread.
 *
 * MAILPROOF_STATUS_FULL when so many messages are under way as the queue has room for: drain first.
 */
mailproof_status mailproof_queue_submit(const struct mailproof_queue *queue,
                                        const void *message,
                                        size_t length,
                                        const struct mailproof_envelope *envelope,
                                        uint64_t token);

/**
 * Ends the message of a session and has its verdict come through the queue, with `token`: what a server needs that takes
 * messages piece by piece and can not wait. Nothing is copied. The session, which must be of the engine of the queue, can
 * be restarted or freed afterwards; the message does not depend on it any more, and can not be cancelled. Never waits for
 * the DNS. From any thread.
 *
 * MAILPROOF_STATUS_FULL as for mailproof_queue_submit(), and the session is as it was. _WRONG_STATE with
 * MAILPROOF_DNS_CALLER, where mailproof_session_poll() says when a message is done; _BAD_OPTION for a session of another
 * engine.
 */
mailproof_status mailproof_queue_finish(const struct mailproof_queue *queue,
                                        struct mailproof_session *session,
                                        uint64_t token);

/**
 * Forgets the message that was submitted last under this token, and what it holds: its sender has gone. Its verdict does
 * not come unless it was reached already. Never waits. From any thread.
 */
mailproof_status mailproof_queue_cancel(const struct mailproof_queue *queue,
                                        uint64_t token);

/**
 * The descriptor that is readable while verdicts wait: for poll, epoll, or an event loop. It belongs to the queue: not to
 * be read from, written to or closed. From any thread.
 */
mailproof_status mailproof_queue_descriptor(const struct mailproof_queue *queue,
                                            int32_t *descriptor);

/**
 * Takes verdicts that are there, up to `capacity` of them, in the order in which they were reached; `count` becomes how
 * many, 0 included. While more of them wait, the descriptor is readable again at once. Never waits. From any thread.
 */
mailproof_status mailproof_queue_drain(const struct mailproof_queue *queue,
                                       struct mailproof_completion *completions,
                                       size_t capacity,
                                       size_t *count);

/**
 * Frees a queue; NULL is fine. Messages that are under way are verified to their end, and their verdicts are dropped. Where
 * it is the last that the threads of the engine are there for, it waits for them: see mailproof_engine_free().
 */
void mailproof_queue_free(struct mailproof_queue *queue);

/**
 * What the configured policy would do with the message.
 */
mailproof_status mailproof_verdict_action(const struct mailproof_verdict *verdict, mailproof_action *action);

/**
 * The value of the Authentication-Results field to add (RFC 8601), on one line, without the name of the field.
 */
mailproof_status mailproof_verdict_authentication_results(const struct mailproof_verdict *verdict, const char **text);

/**
 * The value of the Authentication-Results field to add (RFC 8601), without the name of the field, laid out as
 * MAILPROOF_LAYOUT_LINE, _FOLDED or _FOLDED_LF. `authserv_id` is whose results these are (section 2.5). The text belongs to
 * the caller: mailproof_text_free().
 *
 * MAILPROOF_STATUS_BAD_OPTION for another layout.
 */
mailproof_status mailproof_verdict_results(const struct mailproof_verdict *verdict,
                                           const char *authserv_id,
                                           uint32_t layout,
                                           char **text);

/**
 * Whether a header field has to go before results of this host are added (RFC 8601 section 5): an Authentication-Results
 * field that names `authserv_id`, could be read so, or is of a version that nobody knows. `field` is the whole field,
 * `Name: value` with its folding, with or without the line end behind it; with the line ends of SMTP, or, with
 * MAILPROOF_LINE_ENDS_LF in `flags`, those of Unix. Other fields never have to. From any thread.
 *
 * MAILPROOF_STATUS_BAD_NAME for an authserv-id that could not be told apart in a field.
 */
mailproof_status mailproof_results_are_forged(const char *authserv_id,
                                              const void *field,
                                              size_t length,
                                              uint64_t flags,
                                              bool *are_forged);

/**
 * The client that the message came from. `size` is sizeof(mailproof_client).
 */
mailproof_status mailproof_verdict_client(const struct mailproof_verdict *verdict,
                                          size_t size,
                                          struct mailproof_client *client);

/**
 * SPF of MAIL FROM, the one that DMARC looks at. `size` is sizeof(mailproof_spf).
 */
mailproof_status mailproof_verdict_spf(const struct mailproof_verdict *verdict, size_t size, struct mailproof_spf *spf);

/**
 * SPF of HELO. `size` is sizeof(mailproof_spf).
 */
mailproof_status mailproof_verdict_helo(const struct mailproof_verdict *verdict,
                                        size_t size,
                                        struct mailproof_spf *helo);

/**
 * DKIM signatures that were judged; 0 when the message is not signed.
 */
mailproof_status mailproof_verdict_dkim_count(const struct mailproof_verdict *verdict, size_t *count);

/**
 * One DKIM signature, counted from 0 at the top of the message. `size` is sizeof(mailproof_dkim).
 * MAILPROOF_STATUS_OUT_OF_RANGE when there is none.
 */
mailproof_status mailproof_verdict_dkim(const struct mailproof_verdict *verdict,
                                        size_t index,
                                        size_t size,
                                        struct mailproof_dkim *dkim);

/**
 * The ARC chain. `size` is sizeof(mailproof_arc).
 */
mailproof_status mailproof_verdict_arc(const struct mailproof_verdict *verdict, size_t size, struct mailproof_arc *arc);

/**
 * Who made one seal of the ARC chain, counted from 0 for instance 1. `size` is sizeof(mailproof_arc_sealer).
 * MAILPROOF_STATUS_OUT_OF_RANGE when there is none.
 */
mailproof_status mailproof_verdict_arc_sealer(const struct mailproof_verdict *verdict,
                                              size_t index,
                                              size_t size,
                                              struct mailproof_arc_sealer *sealer);

/**
 * DMARC. `size` is sizeof(mailproof_dmarc).
 */
mailproof_status mailproof_verdict_dmarc(const struct mailproof_verdict *verdict,
                                         size_t size,
                                         struct mailproof_dmarc *dmarc);

/**
 * Whom the message says it is from. `size` is sizeof(mailproof_author).
 */
mailproof_status mailproof_verdict_author(const struct mailproof_verdict *verdict,
                                          size_t size,
                                          struct mailproof_author *author);

/**
 * One domain that the message says it is from, counted from 0 in order of appearance. MAILPROOF_STATUS_OUT_OF_RANGE when
 * there is none.
 */
mailproof_status mailproof_verdict_author_domain(const struct mailproof_verdict *verdict,
                                                 size_t index,
                                                 const char **domain);

/**
 * What is wrong with the octets of the message. `size` is sizeof(mailproof_defects).
 */
mailproof_status mailproof_verdict_defects(const struct mailproof_verdict *verdict,
                                           size_t size,
                                           struct mailproof_defects *defects);

/**
 * The whole verdict as one line of JSON without a line end, in the form that every interface of Mailproof has. `id` is the
 * caller's name for the message, NULL for none. The text belongs to the caller: mailproof_text_free().
 */
mailproof_status mailproof_verdict_json(const struct mailproof_verdict *verdict,
                                        const char *id,
                                        char **json);

/**
 * Frees a verdict; NULL is fine.
 */
void mailproof_verdict_free(struct mailproof_verdict *verdict);

/**
 * Frees a text that a function of the library made over to the caller; NULL is fine.
 */
void mailproof_text_free(char *text);

/**
 * Makes a signer of a private key of `length` octets: PEM or DER of an RSA key of 2,048 bits or more (PKCS #1 or #8) or of
 * an Ed25519 key (PKCS #8, RFC 8463), or the base64 of an Ed25519 seed. It belongs to the caller: mailproof_signer_free().
 * From any thread.
 *
 * MAILPROOF_STATUS_BAD_KEY, _BAD_NAME for the domain, _BAD_OPTION for what else can not be.
 */
mailproof_status mailproof_signer_new(const void *key,
                                      size_t length,
                                      const struct mailproof_signer_options *options,
                                      struct mailproof_signer **signer);

/**
 * Signs a whole message of `length` octets, with the line ends of SMTP unless the signer has MAILPROOF_SIGN_LINE_ENDS_LF, and
 * makes the DKIM-Signature field with its final line end, to be put on top of the header. The text belongs to the caller:
 * mailproof_text_free(). From any thread.
 *
 * MAILPROOF_STATUS_NOT_SIGNED when the message has no From field, or lines of its header end in bare LF.
 */
mailproof_status mailproof_signer_sign(const struct mailproof_signer *signer,
                                       const void *message,
                                       size_t length,
                                       char **field);

/**
 * The text of the key record to publish at SELECTOR._domainkey.DOMAIN (RFC 6376 section 3.6.1). It belongs to the caller:
 * mailproof_text_free(). From any thread.
 */
mailproof_status mailproof_signer_record(const struct mailproof_signer *signer,
                                         char **record);

/**
 * Frees a signer; NULL is fine.
 */
void mailproof_signer_free(struct mailproof_signer *signer);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* MAILPROOF_H */

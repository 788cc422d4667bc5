/*
 * A filter on libmilter that does nothing: every stage is shown to it, as to a filter that looks at all of a message, and it
 * says "go on" to each. What it costs is what libmilter costs.
 *
 * cc -O2 -Wall -Wextra -Werror null_milter.c -lmilter -lpthread
 * null_milter unix:/PATH
 */
#include <stdio.h>
#include <sys/stat.h>
#include <libmilter/mfapi.h>

static sfsistat on_connect(SMFICTX *context, char *host, _SOCK_ADDR *address)
{
    (void) context, (void) host, (void) address;
    return SMFIS_CONTINUE;
}

static sfsistat on_helo(SMFICTX *context, char *name)
{
    (void) context, (void) name;
    return SMFIS_CONTINUE;
}

static sfsistat on_address(SMFICTX *context, char **arguments)
{
    (void) context, (void) arguments;
    return SMFIS_CONTINUE;
}

static sfsistat on_field(SMFICTX *context, char *name, char *value)
{
    (void) context, (void) name, (void) value;
    return SMFIS_CONTINUE;
}

static sfsistat on_end(SMFICTX *context)
{
    (void) context;
    return SMFIS_CONTINUE;
}

static sfsistat on_body(SMFICTX *context, unsigned char *octets, size_t count)
{
    (void) context, (void) octets, (void) count;
    return SMFIS_CONTINUE;
}

int main(int count, char **arguments)
{
    struct smfiDesc description = {
        .xxfi_name = "null",
        .xxfi_version = SMFI_VERSION,
        .xxfi_flags = SMFIF_ADDHDRS,
        .xxfi_connect = on_connect,
        .xxfi_helo = on_helo,
        .xxfi_envfrom = on_address,
        .xxfi_envrcpt = on_address,
        .xxfi_header = on_field,
        .xxfi_eoh = on_end,
        .xxfi_body = on_body,
        .xxfi_eom = on_end,
    };

    if (count != 2) {
        fprintf(stderr, "usage: null_milter unix:/PATH\n");
        return 64;
    }
    umask(0);
    if (smfi_setconn(arguments[1]) == MI_FAILURE || smfi_register(description) == MI_FAILURE)
        return 69;
    return smfi_main() == MI_SUCCESS ? 0 : 70;
}

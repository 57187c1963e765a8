#include "listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 128 };

static odmoe_status failed(odmoe_error *err, const char *where, const char *why)
{
    err->code = ODMOE_ERR_IO;
    snprintf(err->message, sizeof err->message, "%.200s: %.200s", where, why);
    return err->code;
}

/* ---- Unix sockets ---- */

/* Remove what a server that is gone has left behind. */
static odmoe_status clear_path(const struct sockaddr_un *address, odmoe_error *err)
{
    struct stat st;
    if (lstat(address->sun_path, &st))
        return ODMOE_OK;
    if (!S_ISSOCK(st.st_mode))
        return failed(err, address->sun_path, "there is a file of this name that is no socket");
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int answer = fd < 0 ? -1 : connect(fd, (const struct sockaddr *)address, sizeof *address);
    int why = errno;
    if (fd >= 0)
        close(fd);
    if (!answer || why != ECONNREFUSED)
        return failed(err, address->sun_path, "a server listens there already");
    if (unlink(address->sun_path))
        return failed(err, address->sun_path, strerror(errno));
    return ODMOE_OK;
}

static odmoe_status open_unix(const char *path, listener *out, odmoe_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!*path || strlen(path) >= sizeof address.sun_path)
        return failed(err, path, "the name of a Unix socket has 1 to 107 bytes");
    memcpy(address.sun_path, path, strlen(path));
    if (clear_path(&address, err))
        return err->code;
    out->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    mode_t before = umask(0177); /* the socket is its owner's alone from the first moment */
    int bound = out->fd < 0 ? -1 : bind(out->fd, (const struct sockaddr *)&address, sizeof address);
    int why = errno;
    umask(before);
    if (bound || listen(out->fd, BACKLOG)) {
        why = bound ? why : errno;
        if (out->fd >= 0)
            close(out->fd);
        return failed(err, path, strerror(why));
    }
    out->loopback = true;
    snprintf(out->where, sizeof out->where, "unix:%s", path);
    return ODMOE_OK;
}

/* ---- TCP ---- */

static bool address_is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr) >> 24 == 127;
    return address->sa_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr);
}

/* Where it listens now, as a URL. */
static void describe(listener *l)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    char host[64] = "", port[16] = "";
    getsockname(l->fd, (struct sockaddr *)&address, &size);
    getnameinfo((const struct sockaddr *)&address, size, host, sizeof host, port, sizeof port,
                NI_NUMERICHOST | NI_NUMERICSERV);
    const char *format = address.ss_family == AF_INET6 ? "http://[%s]:%s" : "http://%s:%s";
    snprintf(l->where, sizeof l->where, format, host, port);
    l->loopback = address_is_loopback((const struct sockaddr *)&address);
}

odmoe_status listener_open(const char *unix_path, const char *host, int port, listener *out, odmoe_error *err)
{
    if (unix_path)
        return open_unix(unix_path, out, err);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *found, *a;
    char service[16], where[160];
    snprintf(service, sizeof service, "%d", port);
    snprintf(where, sizeof where, "%.120s port %d", host, port);
    int wrong = getaddrinfo(host, service, &hints, &found), why = 0, one = 1;
    if (wrong)
        return failed(err, where, gai_strerror(wrong));
    out->fd = -1;
    for (a = found; a && out->fd < 0; a = a->ai_next) {
        out->fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (out->fd >= 0) {
            setsockopt(out->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
            if (!bind(out->fd, a->ai_addr, a->ai_addrlen) && !listen(out->fd, BACKLOG))
                break;
        }
        why = errno;
        if (out->fd >= 0)
            close(out->fd);
        out->fd = -1;
    }
    freeaddrinfo(found);
    if (out->fd < 0)
        return failed(err, where, strerror(why));
    describe(out);
    return ODMOE_OK;
}

void listener_close(listener *l, const char *unix_path)
{
    close(l->fd);
    if (unix_path)
        unlink(unix_path);
}

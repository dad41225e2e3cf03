/* Preloaded into a process (LD_PRELOAD): writes down every name that is resolved and every address
 * beyond this machine that is connected or sent to, by Python or by C, and lets none of it happen.
 * NETWORK_LOG names the file. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void note(const char *what, const char *whom)
{
    char line[512];
    const char *path = getenv("NETWORK_LOG");
    int file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (file < 0)
        return;
    int length = snprintf(line, sizeof line, "%s %s\n", what, whom);
    if (write(file, line, length) != length)
        abort();
    close(file);
}

static int leaves(const struct sockaddr *address)
{
    char text[INET6_ADDRSTRLEN];
    if (address && address->sa_family == AF_INET) {
        const struct sockaddr_in *to = (const void *)address;
        if (ntohl(to->sin_addr.s_addr) >> 24 == 127)
            return 0;
        note("address", inet_ntop(AF_INET, &to->sin_addr, text, sizeof text));
        return 1;
    }
    if (address && address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *to = (const void *)address;
        if (IN6_IS_ADDR_LOOPBACK(&to->sin6_addr))
            return 0;
        note("address", inet_ntop(AF_INET6, &to->sin6_addr, text, sizeof text));
        return 1;
    }
    return 0;
}

static int is_a_name(const char *node)
{
    struct in6_addr unused;
    return node && strcmp(node, "localhost") && inet_pton(AF_INET, node, &unused) != 1 &&
           inet_pton(AF_INET6, node, &unused) != 1;
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **found)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        dlsym(RTLD_NEXT, "getaddrinfo");
    if (is_a_name(node)) {
        note("name", node);
        return EAI_AGAIN;
    }
    return real(node, service, hints, found);
}

struct hostent *gethostbyname(const char *name)
{
    note("name", name);
    h_errno = TRY_AGAIN;
    return NULL;
}

int connect(int socket, const struct sockaddr *address, socklen_t length)
{
    int (*real)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
    if (leaves(address)) {
        errno = ENETUNREACH;
        return -1;
    }
    return real(socket, address, length);
}

ssize_t sendto(int socket, const void *data, size_t size, int flags,
               const struct sockaddr *address, socklen_t length)
{
    ssize_t (*real)(int, const void *, size_t, int, const struct sockaddr *, socklen_t) =
        dlsym(RTLD_NEXT, "sendto");
    if (leaves(address)) {
        errno = ENETUNREACH;
        return -1;
    }
    return real(socket, data, size, flags, address, length);
}

ssize_t sendmsg(int socket, const struct msghdr *message, int flags)
{
    ssize_t (*real)(int, const struct msghdr *, int) = dlsym(RTLD_NEXT, "sendmsg");
    if (message && leaves(message->msg_name)) {
        errno = ENETUNREACH;
        return -1;
    }
    return real(socket, message, flags);
}

// Leaks connections through five functions, and uses each from two others. For each "leak N" on standard input, N
// connections to 127.0.0.1:PORT, one each 50 ms. To be built with -O2 -fomit-frame-pointer: nothing leads through its stack but
// .eh_frame.
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define KEPT __attribute__((noinline, noclone))
// What comes behind a call keeps it from becoming a jump, which would leave no frame.
#define AND_MORE __asm__ volatile("" ::: "memory")

static int port;

KEPT int open_socket(void) {
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(port)};
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int socket_ = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(socket_, (struct sockaddr *)&server, sizeof server)) exit(1);
    AND_MORE;
    return socket_;
}
KEPT int driver_connect(void) { volatile char locals[777]; locals[0] = 1; int it = open_socket(); AND_MORE; return it; }
KEPT int order_find(void) { int it = driver_connect(); AND_MORE; return it; }
KEPT int handle_request(void) { int it = order_find(); AND_MORE; return it; }
KEPT int worker_run(void) { int it = handle_request(); AND_MORE; return it; }

KEPT void say(int to, char what) { if (send(to, &what, 1, 0) != 1) exit(1); AND_MORE; }
KEPT void begin_query(int to) { say(to, 'b'); AND_MORE; }
KEPT void forget_rows(int to) { say(to, 'f'); AND_MORE; }

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    port = atoi(argv[1]);
    puts("READY");
    fflush(stdout);
    int count;
    while (scanf(" leak %d", &count) == 1) {
        while (count-- > 0) {
            int leaked = worker_run();
            begin_query(leaked);
            forget_rows(leaked);
            usleep(50 * 1000);
        }
        puts("LEAKED");
        fflush(stdout);
    }
    return 0;
}

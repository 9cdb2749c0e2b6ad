// Leaks connections from functions that it compiles itself, and writes their names into /tmp/perf-PID.map, as .NET or Erlang do
// when they are asked to. For each "leak N" on standard input, N connections to 127.0.0.1:PORT, one each 50 ms. x86-64.
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

// push rbp; mov rbp, rsp; call rdi; pop rbp; ret
static const unsigned char CODE[] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3};
typedef int (*compiled)(int (*)(void));

static int port, used;

static compiled compile(unsigned char *at, FILE *map, const char *name) {
    memcpy(at, CODE, sizeof CODE);
    fprintf(map, "%lx %zx %s\n", (unsigned long)at, sizeof CODE, name);
    return (compiled)(void *)at;
}

static int open_socket(void) {
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(port)};
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int socket_ = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(socket_, (struct sockaddr *)&server, sizeof server)) exit(1);
    return socket_;
}

static int say(void) {
    return send(used, "x", 1, 0) != 1;
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    port = atoi(argv[1]);
    char path[64];
    snprintf(path, sizeof path, "/tmp/perf-%d.map", getpid());
    FILE *map = fopen(path, "w");
    unsigned char *room = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!map || room == MAP_FAILED) return 1;
    compiled find = compile(room, map, "Shop.OrderDao::Find");
    compiled both[] = {find, compile(room + 64, map, "Shop.OrderDao::Count")};
    fclose(map);
    puts("READY");
    fflush(stdout);
    int wanted;
    while (scanf(" leak %d", &wanted) == 1) {
        while (wanted-- > 0) {
            used = find(open_socket);
            // From one place: nothing but what was compiled differs.
            for (int which = 0; which < 2; which++)
                if (both[which](say)) return 1;
            usleep(50 * 1000);
        }
        puts("LEAKED");
        fflush(stdout);
    }
    unlink(path);
    return 0;
}

/* leak_libpq CONNINFO: leaks connections to PostgreSQL through five functions and libpq.
 *
 * Built by the test with -O2 -fomit-frame-pointer and without debug information, as programs are that people run. It is
 * driven line by line like the Python ones: "leak N" is answered with "LEAKED N". libpq's functions are declared here,
 * so that its headers needn't be installed. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern void *PQconnectdb(const char *conninfo);
extern int PQstatus(const void *connection);
extern void *PQexec(void *connection, const char *query);
extern void PQclear(void *result);

#define KEPT __attribute__((noinline, noclone))

static const char *conninfo;
static volatile int total;

KEPT void *open_connection(void)
{
    void *connection = PQconnectdb(conninfo);
    if (!connection || PQstatus(connection) != 0)
        exit(1);
    total++;
    return connection;
}

KEPT int find_order(int number)
{
    char query[64];
    void *connection = open_connection();
    snprintf(query, sizeof query, "select %d", number);
    PQclear(PQexec(connection, query));
    total += query[0] == 's';
    return number; /* the bug: nobody closes it */
}

KEPT int list_orders(int number)
{
    char copy[number % 64 + 8]; /* its size is known at run time only: such a function has a frame pointer */
    memset(copy, 1, sizeof copy);
    total += copy[number % 8];
    return find_order(number) + copy[0];
}

KEPT int checkout(int number)
{
    total += number;
    return list_orders(number) + total;
}

KEPT int handle_request(int number)
{
    int result = checkout(number);
    return result + total;
}

int main(int count, char **arguments)
{
    char line[64];
    int wanted, number = 0;
    if (count != 2)
        return 2;
    conninfo = arguments[1];
    setlinebuf(stdout);
    puts("READY");
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "leak %d", &wanted) != 1)
            break;
        while (wanted-- > 0) {
            total += handle_request(++number);
            printf("LEAKED %d\n", number);
            usleep(200 * 1000);
        }
    }
    return 0;
}

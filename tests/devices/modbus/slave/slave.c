/* A Modbus device on libmodbus, for tests.
 *
 *   slave tcp PORT [UNITS]       answers any unit; with UNITS only those, as a gateway does
 *   slave rtu PATH UNIT          one unit on a serial line
 *
 * UNITS is a list: 1,2,3. Registers: holding 0..999 hold their address, input 0..999
 * their address + 10000, coil and discrete input n is on if n is odd. Holding 1000..1999
 * do not exist. Holding 900 counts the requests served, in all units.
 * Standard input takes commands, one a line:
 *   set ADDRESS VALUE            a holding register
 *   late UNIT MS                 the next answer of UNIT comes after so long
 *   silent UNIT on|off           UNIT does not answer
 *   noise HEX                    writes bytes to the line, now (rtu)
 *   answer                       prints the number of requests of each unit
 */
#include <errno.h>
#include <fcntl.h>
#include <modbus.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static modbus_mapping_t *map;
static int known[256], any, silent[256], late[256];
static unsigned long served[256];

static void units(const char *list) {
  any = list == NULL;
  for (const char *p = list; p && *p;) {
    known[strtol(p, (char **)&p, 10) & 255] = 1;
    if (*p == ',') p++;
  }
}

static void command(modbus_t *ctx) {
  static char line[1024];
  static size_t used;
  ssize_t n = read(0, line + used, sizeof line - 1 - used);
  if (n <= 0) exit(0); /* the test has gone */
  used += (size_t)n;
  line[used] = 0;
  for (char *end; (end = strchr(line, '\n'));) {
    int a, b;
    char word[512];
    *end = 0;
    if (sscanf(line, "set %d %d", &a, &b) == 2) map->tab_registers[a] = (uint16_t)b;
    else if (sscanf(line, "late %d %d", &a, &b) == 2) late[a & 255] = b;
    else if (sscanf(line, "silent %d %511s", &a, word) == 2) silent[a & 255] = strcmp(word, "on") == 0;
    else if (sscanf(line, "noise %511s", word) == 1)
      for (char *h = word; h[0] && h[1]; h += 2) {
        char two[3] = {h[0], h[1], 0};
        unsigned char c = (unsigned char)strtol(two, NULL, 16);
        if (write(modbus_get_socket(ctx), &c, 1) != 1) perror("noise");
      }
    else if (strcmp(line, "answer") == 0) {
      for (int u = 0; u < 256; u++)
        if (served[u]) printf("%d=%lu ", u, served[u]);
      printf("\n");
    }
    printf("ok\n");
    fflush(stdout);
    used -= (size_t)(end + 1 - line);
    memmove(line, end + 1, used + 1);
  }
}

/* One request, answered or not. Returns -1 when the connection has ended. */
static int serve(modbus_t *ctx, int rtu) {
  uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
  int n = modbus_receive(ctx, query);
  if (n <= 0) return rtu || n == 0 ? 0 : -1;
  int unit = rtu ? query[0] : query[6];
  served[unit]++;
  map->tab_registers[900]++;
  if ((!any && !known[unit]) || silent[unit]) return 0;
  if (late[unit]) {
    usleep((useconds_t)late[unit] * 1000);
    late[unit] = 0;
  }
  return modbus_reply(ctx, query, n, map) < 0 && !rtu ? -1 : 0;
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  map = modbus_mapping_new(1000, 1000, 1000, 1000);
  for (int i = 0; i < 1000; i++) {
    map->tab_bits[i] = map->tab_input_bits[i] = i & 1;
    map->tab_registers[i] = (uint16_t)i;
    map->tab_input_registers[i] = (uint16_t)(i + 10000);
  }
  units(argc > 3 ? argv[3] : NULL);
  int rtu = strcmp(argv[1], "rtu") == 0;
  modbus_t *ctx;
  struct pollfd fds[64] = {{0, POLLIN, 0}};
  nfds_t count = 1;
  int listener = -1;
  if (rtu) {
    ctx = modbus_new_rtu(argv[2], 115200, 'N', 8, 2);
    modbus_set_slave(ctx, argc > 3 ? atoi(argv[3]) : 1);
    if (modbus_connect(ctx) < 0) return perror(argv[2]), 1;
    fds[count++] = (struct pollfd){modbus_get_socket(ctx), POLLIN, 0};
  } else {
    ctx = modbus_new_tcp("127.0.0.1", atoi(argv[2]));
    listener = modbus_tcp_listen(ctx, 16);
    if (listener < 0) return perror("listen"), 1;
    fds[count++] = (struct pollfd){listener, POLLIN, 0};
  }
  printf("ready\n");
  fflush(stdout);
  for (;;) {
    if (poll(fds, count, -1) < 0) continue;
    if (fds[0].revents) command(ctx);
    for (nfds_t i = 1; i < count; i++) {
      if (!fds[i].revents) continue;
      if (fds[i].fd == listener) {
        int fd = accept(listener, NULL, NULL);
        if (fd >= 0 && count < 64) fds[count++] = (struct pollfd){fd, POLLIN, 0};
        else if (fd >= 0) close(fd);
        continue;
      }
      modbus_set_socket(ctx, fds[i].fd);
      if (serve(ctx, rtu) < 0) {
        close(fds[i].fd);
        fds[i--] = fds[--count];
      }
    }
  }
}

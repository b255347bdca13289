/* A plugin for qemu-aarch64: how many instructions each page of code ran between two calls of getpriority(2).

   For QEMU 7.2 (Debian 12), whose package has no header: the few prototypes are written out. Needs no more than
   `gcc -shared -fPIC`. Each page is a line "page count", each mark a line "mark", in the file given as out=FILE. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int op, void *ptr, uint64_t imm);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t, unsigned, int64_t,
    uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

enum { SLOTS = 1 << 17, GETPRIORITY = 141, ADD_U64 = 0 }; /* 131,072 pages of code are 512 MB */
static struct { uint64_t page, count; } slots[SLOTS];
static FILE *out;

static uint64_t *counter(uint64_t page)
{
    for (size_t at = page * 0x9E3779B97F4A7C15u >> 47;; at = (at + 1) % SLOTS) {
        if (slots[at].page == 0)
            slots[at].page = page;
        if (slots[at].page == page)
            return &slots[at].count;
    }
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, ADD_U64, counter(qemu_plugin_tb_vaddr(tb) >> 12), qemu_plugin_tb_n_insns(tb));
}

static void called(qemu_plugin_id_t id, unsigned vcpu, int64_t number, uint64_t a, uint64_t b, uint64_t c,
    uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
    (void)id, (void)vcpu, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number != GETPRIORITY)
        return;
    for (size_t at = 0; at < SLOTS; at++)
        if (slots[at].count) {
            fprintf(out, "%" PRIx64 " %" PRIu64 "\n", slots[at].page, slots[at].count);
            slots[at].count = 0;
        }
    fputs("mark\n", out);
    fflush(out);
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    (void)info;
    if (argc != 1 || strncmp(argv[0], "out=", 4) || !(out = fopen(argv[0] + 4, "w")))
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}

/* One test of a battery of TestU01, on 32-bit words from standard input: testu01_stdin BATTERY NUMBER.

   cc -O2 bench/testu01_stdin.c -I PREFIX/include -L PREFIX/lib -ltestu01 -lprobdist -lmylib -lm -o testu01_stdin

   After TestU01's own output, a line for each p-value with its name, one that counts the words, and END. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bbattery.h"
#include "unif01.h"

#define WORDS (1 << 16)
#define MOST_TESTS 200

static unsigned int buffer[WORDS];
static size_t next, end;
static unsigned long long taken;

static unsigned int word(void)
{
    if (next == end) {
        taken += end;
        end = fread(buffer, sizeof *buffer, WORDS, stdin);
        next = 0;
        if (end == 0) {
            fprintf(stderr, "standard input ended after %llu words\n", taken);
            exit(3);
        }
    }
    return buffer[next++];
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(unif01_Gen *, int[]);
        int tests;
    } batteries[] = {
        {"SmallCrush", bbattery_RepeatSmallCrush, 10},
        {"Crush", bbattery_RepeatCrush, 96},
        {"BigCrush", bbattery_RepeatBigCrush, 106},
    };
    int repeats[MOST_TESTS + 1] = {0};
    int number = argc == 3 ? atoi(argv[2]) : 0;

    for (size_t k = 0; argc == 3 && k < sizeof batteries / sizeof *batteries; k++) {
        if (strcmp(argv[1], batteries[k].name) != 0 || number < 1 || number > batteries[k].tests)
            continue;
        repeats[number] = 1;
        batteries[k].run(unif01_CreateExternGenBits("standard input", word), repeats);
        for (int j = 0; j < bbattery_NTests; j++)
            printf("RESULT %.6e %s\n", bbattery_pVal[j], bbattery_TestNames[j]);
        printf("WORDS %llu\nEND\n", taken + next);
        return 0;
    }
    fprintf(stderr, "usage: %s SmallCrush|Crush|BigCrush NUMBER\n", argv[0]);
    return 2;
}

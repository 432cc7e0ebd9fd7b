#!/usr/bin/env bash
# Runs outside batteries of tests on the raw stream, with those that are installed: dieharder (apt-get install
# dieharder); PractRand (RNG_test in the PATH); TestU01 (a program testu01_stdin in the PATH that reads 32-bit words
# from standard input and takes "quick" or "all").
#
# `bench/batteries.sh quick` runs the tests of dieharder that read some GB each at most, in some 10 minutes a stream;
# `all` takes hours: all of dieharder's, and PractRand to 1 TB. The streams: one tensor's; 1024 tensors' in turn, a word
# of each; 1024 sequential seeds' in turn. In the environment, SEED, STREAMS and TESTS (dieharder's numbers) choose
# others, and FASTINIT the command.
set -u
length=${1:-quick}
seed=${SEED:-0}
fastinit=${FASTINIT:-fastinit}
case $length in
  # dieharder -l names them: those of Marsaglia's Diehard that are in order, NIST's, and dieharder's own, some of which
  # take a size after a colon
  quick)
    tests="0 1 2 3 4 8 9 10 11 12 13 15 16 17 100 101 102 200:4 201:3 202:4 203:8 204 205 206 207 208 209"
    size=16GB
    ;;
  all) tests=all size=1TB ;;
  *) echo "usage: $0 [quick|all]" >&2; exit 2 ;;
esac

stream() { # one of the ways to read words
  case $1 in
    one) $fastinit words --seed "$seed" --name w ;;
    names) $fastinit words --seed "$seed" --name w --names 1024 ;;
    seeds) $fastinit words --seed "$seed" --name w --seeds 1024 ;;
    *) echo "STREAMS takes one, names and seeds, got $1" >&2; exit 2 ;;
  esac
}

tests=${TESTS:-$tests}

for kind in ${STREAMS:-one names seeds}; do
  date -u "+# %Y-%m-%d %H:%M UTC, stream $kind, seed $seed, $length"
  if command -v dieharder >/dev/null; then
    if [ "$tests" = all ]; then
      stream "$kind" | dieharder -g 200 -a
    else
      for test in $tests; do # -g 200: raw words from standard input
        options=(-g 200 -d "${test%:*}")
        if [[ $test = *:* ]]; then options+=(-n "${test#*:}"); fi
        stream "$kind" | dieharder "${options[@]}" | grep -E 'PASSED|WEAK|FAILED'
      done
    fi
  fi
  if command -v RNG_test >/dev/null; then stream "$kind" | RNG_test stdin32 -tlmax "$size" -multithreaded; fi
  if command -v testu01_stdin >/dev/null; then stream "$kind" | testu01_stdin "$length"; fi
done

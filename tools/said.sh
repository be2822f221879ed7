#!/bin/sh
# Prints the first text or, for a reader of Chinese, the second:   sh tools/said.sh ENGLISH CHINESE
# The rule is that of qwen-npu: QWEN_NPU_LANG over LC_ALL over LC_MESSAGES over LANG. Chinese is
# written as UTF-8 here, so a terminal of another encoding, such as GBK or ascii, gets English.
named=${QWEN_NPU_LANG:-${LC_ALL:-${LC_MESSAGES:-${LANG:-}}}}
encoding=${LC_ALL:-${LC_CTYPE:-${LANG:-}}}
encoding=${PYTHONIOENCODING:-${encoding#"${encoding%%.*}"}}
text=$1
case $named in
    [Zz][Hh]* | [Cc][Hh][Ii][Nn][Ee][Ss][Ee]*)
        case $encoding in
            "" | *[Uu][Tt][Ff]*) text=$2 ;;
        esac ;;
esac
printf '%s\n' "$text"

# Source scripts in order and print the environment after the last one: bash source.sh SCRIPT...
# stdout is for the environment alone: `env -0` ends each value with a zero byte. The arguments
# are cleared, because a sourced script would take them for its own.
exec 2>/dev/null
scripts=("$@")
set --
for script in "${scripts[@]}"; do
  # shellcheck disable=SC1090
  source "$script" >&2 || exit 3
done
env -0

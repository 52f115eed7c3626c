# bash completion for Corral's programs. Commands and options are taken from what --help says, and so never out of date.

# The words after "Subcommands:" (corral) of the help of the command so far.
_corral_commands() {
  "$@" --help 2>/dev/null | awk '/^[Ss]ubcommands:/ { inside = 1; next } inside && /^[^ ]/ { inside = 0 }
    inside && /^  [a-z]/ { print $1 }'
}

_corral_options() {
  "$@" --help 2>/dev/null | grep -oE -- '(^|[ ,])--?[a-zA-Z][a-z-]*' | tr -d ' ,'
}

_corral_devices() {
  compgen -f -- "$1"
  compgen -W "iscsi://" -- "$1"
}

_corral() {
  local word=${COMP_WORDS[COMP_CWORD]} command=("${COMP_WORDS[0]}") known index
  COMPREPLY=()
  for ((index = 1; index < COMP_CWORD; ++index)); do
    known=$(_corral_commands "${command[@]}")
    [[ -n $known && " $(echo $known) " == *" ${COMP_WORDS[index]} "* ]] || break
    command+=("${COMP_WORDS[index]}")
  done
  if [[ $word == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$(_corral_options "${command[@]}")" -- "$word")
    return
  fi
  known=$(_corral_commands "${command[@]}")
  if [[ -n $known ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$known" -- "$word")
  else
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(_corral_devices "$word")
  fi
}

complete -F _corral corral mkfs.corral fsck.corral mount.corral

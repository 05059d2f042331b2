# Put this into ~/.bashrc: `berth apps` is then `@SSH@ apps`, and Tab completes.
berth() {
  # Each word is quoted for the other side, which cuts the line into words again.
  local word line='' quote="'" quoted="'\\''"
  for word in "$@"; do
    line="$line '${word//$quote/"$quoted"}'"
  done
  if [ -t 0 ] && [ -t 1 ] && [ -t 2 ]; then
    @SSH@ -t -o LogLevel=ERROR -- "$line"
  else
    @SSH@ -- "$line"
  fi
}
_berth_ask() {
  # At most every 30 seconds.
  if [ -z "$_berth_asked" ] || [ $((SECONDS - _berth_asked)) -ge 30 ]; then
    _berth_apps=$(@SSH@ -o BatchMode=yes apps -q </dev/null 2>/dev/null)
    _berth_asked=$SECONDS
  fi
}
_berth() {
  local word=${COMP_WORDS[COMP_CWORD]} verb=${COMP_WORDS[1]} next='' first=2
  if [ "$COMP_CWORD" -le 1 ]; then
    next='@VERBS@'
  else
    if [ "$COMP_CWORD" -ge 3 ]; then
      case "$verb ${COMP_WORDS[2]}" in
      @TWO@)
        verb="$verb ${COMP_WORDS[2]}"
        first=3
        ;;
      esac
    fi
    case "$word" in
    -*)
      case "$verb" in
@OPTIONS@
      esac
      ;;
    *)
      [ "$COMP_CWORD" -eq "$first" ] && case "$verb" in
@FIRST@
      esac
      ;;
    esac
  fi
  case " $next " in
  *' APP '*)
    _berth_ask
    next="${next/APP/$_berth_apps}"
    ;;
  esac
  COMPREPLY=($(compgen -W "$next" -- "$word"))
}
complete -F _berth berth

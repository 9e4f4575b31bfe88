# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# bash completion for objmapperctl. Verbs and options are those that --help shows; URIs are the daemon's.

# _objmapperctl_options [VERB]: what --help shows, one a line; those that take a value end with "=".
_objmapperctl_options() {
        "${words[0]}" "$@" --help 2>/dev/null </dev/null |
                sed -nE 's/^  (-., |    )(--[a-z-]+=?).*/\2/p; s/^  (-.), --.*/\1/p'
}

_objmapperctl_verbs() {
        "${words[0]}" --help 2>/dev/null </dev/null | sed -nE '/^Verbs:/,/^$/s/^  ([a-z-]+) .*/\1/p'
}

# A store may hold millions: some of them, of whom nobody waits for long.
_objmapperctl_uris() {
        "${words[0]}" "${where[@]}" --timeout=2s ls -- "$1" 2>/dev/null </dev/null | head -n 200
}

_objmapperctl() {
        local cur prev words cword verb='' where=() operands=0 word i
        _get_comp_words_by_ref -n =: cur prev words cword || return
        COMPREPLY=()

        for ((i = 1; i < cword; i++)); do
                word=${words[i]}
                case $word in
                --user | --socket=* | --publish-socket=* | --instance=*) where+=("$word") ;;
                --socket | --publish-socket | --instance)
                        where+=("$word" "${words[++i]}")
                        ;;
                --timeout | --output | --mode | --range | --meta | --ttl | --if-generation | --rate | --interval | --batch | -[omrMib]) ((++i)) ;;
                -*) ;;
                *)
                        if [[ $verb ]]; then
                                ((++operands))
                        else
                                verb=$word
                        fi
                        ;;
                esac
        done

        # "--option=val" is one word here.
        case $cur in
        --*=*)
                prev=${cur%%=*}
                cur=${cur#*=}
                ;;
        esac
        case $prev in
        --socket | --publish-socket | --output | -o)
                compopt -o filenames
                mapfile -t COMPREPLY < <(compgen -f -- "$cur")
                return
                ;;
        --mode | -m)
                mapfile -t COMPREPLY < <(compgen -W "fdpass copy splice auto" -- "$cur")
                return
                ;;
        --timeout | --range | -r | --meta | -M | --ttl | --if-generation | --instance | --rate | --interval | -i | --batch | -b)
                return
                ;;
        esac

        if [[ $cur == -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W "$(_objmapperctl_options ${verb:+"$verb"})" -- "$cur")
                [[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace
        elif [[ ! $verb ]]; then
                mapfile -t COMPREPLY < <(compgen -W "$(_objmapperctl_verbs)" -- "$cur")
        else
                case $verb:$operands in
                get:0 | stat:0 | set-meta:0 | put:0 | rm:* | pin:* | unpin:* | purge:0 | ls:0 | export:0)
                        mapfile -t COMPREPLY < <(_objmapperctl_uris "$cur")
                        # What a shell would take apart.
                        for i in "${!COMPREPLY[@]}"; do
                                printf -v "COMPREPLY[$i]" %q "${COMPREPLY[i]}"
                        done
                        __ltrim_colon_completions "$cur"
                        ;;
                put:1 | import:0)
                        compopt -o filenames
                        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
                        ;;
                esac
        fi
} && complete -F _objmapperctl objmapperctl

#compdef objmapperctl
# SPDX-License-Identifier: LGPL-2.1-or-later
# zsh completion for objmapperctl. Verbs and options are those that --help shows; URIs are the daemon's.

# Options of a verb, or of every verb, as _arguments takes them.
_objmapperctl_specs() {
        local line letter name value text
        local -a found
        specs=()
        found=("${(@f)$($program "$@" --help 2>/dev/null </dev/null)}")
        for line in $found; do
                [[ $line =~ '^  (-(.), |    )--([a-z-]+)(=([A-Z=]+))? +(.*)$' ]] || continue
                letter=$match[2] name=$match[3] value=$match[5] text=${match[6]//:/\\:}
                text=${${text//\[/\\[}//\]/\\]}
                case $value in
                '') ;;
                FILE | PATH) value=:$value:_files ;;
                MODE) value=':mode:(fdpass copy splice auto)' ;;
                *) value=:$value: ;;
                esac
                if [[ -n $letter ]]; then
                        specs+=("(-$letter --$name)-$letter${value:++}[$text]$value")
                        specs+=("(-$letter --$name)--$name${value:+=}[$text]$value")
                else
                        specs+=("--$name${value:+=}[$text]$value")
                fi
        done
}

_objmapperctl_verbs() {
        local -a verbs
        verbs=("${(@f)$($program --help 2>/dev/null </dev/null |
                sed -nE '/^Verbs:/,/^$/s/^  ([a-z-]+)( [^ ]+)* {2,}(.*)/\1:\3/p')}")
        _describe -t verbs verb verbs
}

# A store may hold millions: some of them, of whom nobody waits for long.
_objmapperctl_uris() {
        local -a uris
        uris=("${(@f)$($program $where --timeout=2s ls -- "${(Q)PREFIX}" 2>/dev/null </dev/null | head -n 200)}")
        [[ -n $uris ]] && compadd -M 'r:|[/:.]=* r:|=*' -- $uris
}

_objmapperctl() {
        local curcontext=$curcontext state program=$words[1] verb name
        local -a specs line where
        local -A opt_args

        _objmapperctl_specs
        _arguments -C -S $specs '1: :_objmapperctl_verbs' '*:: :->operands' && return
        [[ $state == operands ]] || return

        for name in --user --socket --publish-socket --instance; do
                (( ! $+opt_args[$name] )) || where+=("$name${opt_args[$name]:+=}${(Q)opt_args[$name]}")
        done
        verb=$words[1]
        _objmapperctl_specs $verb
        case $verb in
        get | stat | purge | ls | export) _arguments -S $specs '1:URI:_objmapperctl_uris' ;;
        put) _arguments -S $specs '1:URI:_objmapperctl_uris' '2:file:_files' ;;
        set-meta) _arguments -S $specs '1:URI:_objmapperctl_uris' '*:KEY=VALUE:' ;;
        rm | pin | unpin) _arguments -S $specs '*:URI:_objmapperctl_uris' ;;
        import) _arguments -S $specs '1:archive:_files' ;;
        *) _arguments -S $specs ;;
        esac
}

_objmapperctl "$@"

# bash completion for odmoe. Commands and options are asked from the program itself, so they cannot go stale.

_odmoe_words() { # WORDS: those that continue the current word
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
}

_odmoe_models() { # folders and .gguf files
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -d -- "$cur"; compgen -f -X '!*.gguf' -- "$cur")
}

_odmoe_listed() { # TITLE: the names that `odmoe --version` lists under it
    "$program" --version 2>/dev/null | sed -n "s/^$1: //p"
}

_odmoe() {
    local cur=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} program=${COMP_WORDS[0]}
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        _odmoe_words "--help --version $("$program" --help 2>/dev/null | sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p')"
        return
    fi
    # bash splits --io=pread at the equals sign
    if [[ $cur == = ]]; then
        cur=
    elif [[ $previous == = ]]; then
        previous=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    case $previous in
    -m) _odmoe_models ;;
    --kernels) _odmoe_words "auto $(_odmoe_listed kernels)" ;;
    --io) _odmoe_words "auto $(_odmoe_listed io)" ;;
    --policy) _odmoe_words "auto $(_odmoe_listed policies)" ;;
    --prefetch | --ahead) _odmoe_words "auto off" ;;
    --embeddings) _odmoe_words "auto memory disk" ;;
    --kv) _odmoe_words "f32 f16 q8_0" ;;
    --ram) _odmoe_words "1GiB 2GiB 4GiB 8GiB 16GiB 32GiB 64GiB" ;;
    --cache-dir)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -d -- "$cur")
        ;;
    -f | --unix | --log | --api-key-file | --out | --stats | --tokens-file | --template | --messages | --tools | --grammar | --json-schema | --gbnf | --schema | --check)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        ;;
    *)
        if [[ $cur == -* ]]; then
            _odmoe_words "$("$program" "${COMP_WORDS[1]}" --help 2>/dev/null |
                grep -oE '^ {2,6}(-[a-z](, | ))?(--[a-z-]+)?' | grep -oE -- '-[a-z-]+' | sort -u | tr '\n' ' ')"
        else
            _odmoe_models
        fi
        ;;
    esac
}
complete -F _odmoe odmoe

# Completion of ldm. Generated from the command table by python -m lodom.grammar.
_ldm() {
    local cur=${COMP_WORDS[COMP_CWORD]} words=
    if ((COMP_CWORD == 1)); then
        words="add-domain add-io add-mau add-memory add-spconfig add-variable add-vcc add-vcpu add-vdisk add-vds add-vdsdev add-vnet add-vsw bind-domain cancel-operation explain list list-bindings list-constraints list-devices list-domain list-history list-services list-spconfig list-variable migrate-domain panic-domain recover-domain remove-domain remove-io remove-mau remove-memory remove-spconfig remove-variable remove-vcc remove-vcpu remove-vdisk remove-vds remove-vdsdev remove-vnet remove-vsw set-domain set-mau set-memory set-spconfig set-variable set-vcc set-vcons set-vcpu set-vdisk set-vdsdev set-vnet set-vsw start-domain stop-domain unbind-domain --help -V"
    else
        case ${COMP_WORDS[1]} in
            list-bindings|ls-bindings) words="-e -p" ;;
            list-services|ls-services) words="-e -p" ;;
            list-constraints|ls-constraints) words="-e -p -x" ;;
            list-devices|ls-devices) words="-a -p cpu io mau memory" ;;
            add-dom|add-domain|create) words="-i failure-policy= hostid= mac-addr= master=" ;;
            modify|set-dom|set-domain) words="-i failure-policy= hostid= mac-addr= master=" ;;
            destroy|remove-dom|remove-domain|rm-dom|rm-domain) words="-a" ;;
            list|list-dom|list-domain|ls|ls-dom|ls-domain) words="-e -l -o -p" ;;
            start|start-dom|start-domain) words="-a -i" ;;
            stop|stop-dom|stop-domain) words="-a -f" ;;
            bind|bind-dom|bind-domain) words="-i" ;;
            mig|migrate|migrate-dom|migrate-domain) words="--json -c -f -n -p -v" ;;
            recover|recover-dom|recover-domain) words="-y" ;;
            cancel-op|cancel-operation) words="migration reconf" ;;
            add-io) words="bypass=" ;;
            add-config|add-spconfig) words="-r" ;;
            remove-config|remove-spconfig|rm-config|rm-spconfig) words="-r" ;;
            list-config|list-spconfig|ls-config|ls-spconfig) words="-r" ;;
            add-vcc|add-vconscon) words="port-range=" ;;
            set-vcc|set-vconscon) words="port-range=" ;;
            remove-vcc|remove-vconscon|rm-vcc|rm-vconscon) words="-f" ;;
            set-vcons|set-vconsole) words="group= port= service=" ;;
            add-vdisk) words="id= timeout=" ;;
            set-vdisk) words="timeout= volume=" ;;
            remove-vdisk|rm-vdisk) words="-f" ;;
            remove-vdiskserver|remove-vds|rm-vdiskserver|rm-vds) words="-f" ;;
            add-vdiskserverdevice|add-vdsdev) words="-f mpgroup= options=" ;;
            set-vdiskserverdevice|set-vdsdev) words="-f mpgroup= options=" ;;
            remove-vdiskserverdevice|remove-vdsdev|rm-vdiskserverdevice|rm-vdsdev) words="-f" ;;
            add-vnet) words="id= mac-addr= mode= mtu= pvid= vid=" ;;
            set-vnet) words="mac-addr= mode= mtu= pvid= vid= vswitch=" ;;
            remove-vnet|rm-vnet) words="-f" ;;
            add-vsw|add-vswitch) words="default-vlan-id= id= mac-addr= mode= mtu= net-dev= pvid= vid=" ;;
            set-vsw|set-vswitch) words="mac-addr= mode= mtu= net-dev= pvid= vid=" ;;
            remove-vsw|remove-vswitch|rm-vsw|rm-vswitch) words="-f" ;;
            list-history|ls-history) words="--json -n -p" ;;
        esac
        [[ $cur == -* ]] || words+=" $(ldm list -p 2>/dev/null | sed -n 's/^DOMAIN|name=\([^|]*\).*/\1/p')"
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
    [[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace 2>/dev/null
}
complete -F _ldm ldm

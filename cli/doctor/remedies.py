"""What each finding means, who acts on it, and by which commands on which hypervisor: data, and nothing decides here.

In a command `{uri}` is the hypervisor's address, `{vm}` and `{id}` are a VM's name and id, `{path}` is its inventory
path, `{tool}` is `qm` or `pct`, `{sid}` HA's word for it, each as a shell takes it. `{vmpower}` is the
command line, with the provider where that must be named; `{program}` starts a provider. `{address}` and `{file}` are
those of the provider and of a file; others stand beside the finding that fills them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cli.doctor.finding import Check

ANY = ""
"""The commands that hold for every hypervisor."""
CERTIFICATE = "certificate"
"""In place of a hypervisor: for clients that prove by a certificate who they are."""
Commands = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Remedy:
    """`what` is a sentence for findings that bring none. `commands` by hypervisor: its own, else those for any."""

    why: str
    who: str
    commands: Commands = field(default_factory=dict)
    what: str = ""

    def of(self, hypervisor: str) -> tuple[str, ...]:
        return self.commands.get(hypervisor, self.commands.get(ANY, ()))


_QGA = (
    "systemctl start qemu-guest-agent  # in a Linux guest",
    "Start-Service QEMU-GA  # in a Windows guest, in PowerShell",
)
_INSTALL_QGA = (
    "apt-get install qemu-guest-agent  # in the guest: Debian, Ubuntu; elsewhere dnf, zypper; Windows: virtio-win",
)
_CHANNEL = '<channel type="unix"><target type="virtio" name="org.qemu.guest_agent.0"/></channel>'
_AGENT_WHY = "Without an agent a guest hears only the power button, and no program of a hook can run in it."
_RENEW = ("openssl x509 -in {file} -noout -subject -issuer -enddate  # what the file has",)
_SHOW_SERVER = ("openssl s_client -connect {peer} -showcerts < /dev/null  # what the provider shows",)
_NO_CALL = "No command reaches the provider; what it has begun goes on without us."
_NO_HYPERVISOR = "The provider can begin nothing; operations that are under way wait for the hypervisor."

REMEDIES: Mapping[str, Remedy] = {
    Check.SOCKET_MISSING: Remedy(
        _NO_CALL,
        "the provider's operator starts it, or you mend the address",
        {ANY: ("{program} --listen {address}",)},
    ),
    Check.SOCKET_PERMISSION: Remedy(
        _NO_CALL,
        "the provider's operator lets your group in (--socket-group), and the machine's administrator puts you into it",
        {ANY: ("ls -l {file}", 'usermod --append --groups {group} "$USER"  # then log in anew')},
    ),
    Check.FOLDER_PERMISSION: Remedy(
        _NO_CALL,
        "whoever owns the directory lets you, or a group that you are in, enter it",
        {ANY: ("ls -ld {file}", "id  # who you are, and your groups")},
    ),
    Check.NOT_LISTENING: Remedy(
        _NO_CALL,
        "the provider's operator starts it, and looks at what it listens on (--listen)",
        {ANY: ("{program} --listen {address}",)},
    ),
    Check.HOST_UNKNOWN: Remedy(
        _NO_CALL, "you: mend the name, or whoever runs the DNS", {ANY: ("getent hosts {host}",)}
    ),
    Check.HOST_UNREACHABLE: Remedy(
        _NO_CALL,
        "whoever runs the network between here and there: a route, a firewall, or a machine that is off",
        {ANY: ("tracepath {host}",)},
    ),
    Check.NO_ANSWER: Remedy(
        _NO_CALL, "the provider's operator looks at its log; what answers there may be something else"
    ),
    Check.REFUSED: Remedy("The provider was reached, and did not say what it is.", "as the sentence says"),
    Check.TLS_MISSING: Remedy(
        "What speaks TLS understands nothing else. " + _NO_CALL,
        "you: write `tls: {ca: FILE, cert: FILE, key: FILE}` beside its address in the configuration; the provider's "
        "operator has the CA and issues the certificate",
        {ANY: _SHOW_SERVER},
    ),
    Check.TLS_FILES: Remedy(
        "Without the three files there is no TLS.",
        "you: provide the file, or name another in the configuration",
        {ANY: ("ls -l {file}", "head -n 1 {file}  # a file in PEM begins with -----BEGIN")},
    ),
    Check.TLS_KEY: Remedy(
        "Without its own key a certificate proves nothing.",
        "you: name the key and the certificate that were issued together",
        {
            ANY: (
                "openssl pkey -in {file} -pubout",
                "openssl x509 -in {cert} -noout -pubkey  # must be the same",
            )
        },
    ),
    Check.TLS_FAILED: Remedy(
        _NO_CALL,
        "the provider's operator: does it listen with TLS there (--tls-cert)?",
        {ANY: _SHOW_SERVER},
    ),
    Check.CERTIFICATE_EXPIRED: Remedy(
        "A client must not trust it any more. " + _NO_CALL,
        "the provider's operator renews it (--tls-cert, --tls-key); it is read again without a restart",
        {ANY: _SHOW_SERVER},
    ),
    Check.CERTIFICATE_NOT_YET_VALID: Remedy(
        "A client must not trust it yet. " + _NO_CALL,
        "whoever sets the clock here, or issued the certificate",
        {ANY: ("timedatectl", *_SHOW_SERVER)},
    ),
    Check.CERTIFICATE_NAME: Remedy(
        "Another machine may answer there. " + _NO_CALL,
        "you: name it as its certificate does (server_name in the configuration); or its operator renews it with the "
        "name in the address",
        {ANY: _SHOW_SERVER},
    ),
    Check.CERTIFICATE_CA: Remedy(
        "Who answers there cannot prove to be your provider. " + _NO_CALL,
        "you: name the CA that signed it (ca in the configuration), which its operator has",
        {ANY: ("openssl x509 -in {file} -noout -subject  # the CA that is trusted here", *_SHOW_SERVER)},
    ),
    Check.CERTIFICATE_ENDS_SOON: Remedy(
        "When it has ended, no client can reach the provider.",
        "the provider's operator renews it (--tls-cert, --tls-key); it is read again without a restart",
        {ANY: _SHOW_SERVER},
    ),
    Check.OWN_CERTIFICATE_EXPIRED: Remedy(
        "The provider refuses it. " + _NO_CALL,
        "you: get a new one from your authority; it is read again at the next call",
        {ANY: _RENEW},
    ),
    Check.OWN_CERTIFICATE_REFUSED: Remedy(
        _NO_CALL,
        "you: get a certificate from the authority that the provider trusts (its --tls-client-ca), or its operator "
        "trusts yours",
        {ANY: _RENEW},
    ),
    Check.READER_ONLY: Remedy(
        "You can look at VMs, and neither start them nor bring them down.",
        "the provider's operator adds your name to --operators (certificates) or your number to --operator-uids",
        {
            CERTIFICATE: ("openssl x509 -in {cert} -noout -subject -ext subjectAltName  # the names to choose from",),
            ANY: ("id -u",),
        },
    ),
    Check.GUEST_EXEC_DISABLED: Remedy(
        "Hooks that run programs in guests are refused (DISABLED); all other hooks, and shutdowns, work.",
        "the provider's operator, if hooks are to run programs: starts it with --allow-guest-exec",
        {ANY: ("VMPOWER_ALLOW_GUEST_EXEC=true  # in its environment, then start it again",)},
    ),
    Check.JOURNAL_FAILED: Remedy(
        "No operation begins, for none could survive a restart.",
        "the provider's operator mends the disk of its --state-dir",
        {ANY: ('df -h "$VMPOWER_STATE_DIR"', 'ls -ld "$VMPOWER_STATE_DIR"')},
    ),
    Check.CLOCK: Remedy(
        "Deadlines that are given as a moment, and the lives of certificates, are of its clock; what you read and "
        "write is of yours.",
        "whoever runs the machine whose clock is wrong",
        {ANY: ("timedatectl set-ntp true", "timedatectl  # is it synchronized?")},
    ),
    Check.HYPERVISOR_UNREACHABLE: Remedy(
        _NO_HYPERVISOR,
        "the hypervisor's operator looks after it; the provider's operator, if its address is another",
        {
            "libvirt": ("virsh -c {uri} version", "systemctl status libvirtd  # on the hypervisor"),
            "vsphere": ("curl -sS -o /dev/null {uri}",),
            "proxmox": ("systemctl status pveproxy  # on the node",),
        },
    ),
    Check.HYPERVISOR_LOGIN: Remedy(
        _NO_HYPERVISOR,
        "the provider's operator mends the files in --credentials-dir; they are read at the next attempt",
        {
            "vsphere": ("GOVC_URL={uri} GOVC_USERNAME=... GOVC_PASSWORD=... govc about",),
            "proxmox": ("pveum user token list USER@REALM", "pveum passwd USER@REALM"),
            "libvirt": ("virsh -c {uri} version  # as the provider's user",),
        },
    ),
    Check.HYPERVISOR_CERTIFICATE: Remedy(
        "What answers there cannot prove to be the hypervisor. " + _NO_HYPERVISOR,
        "the provider's operator sets the CA (--ca-file) or the fingerprint, or mends the name in the address; the "
        "hypervisor's operator renews what has expired",
        {
            "vsphere": ("openssl s_client -connect {peer} < /dev/null | openssl x509 -noout -subject -enddate",),
            "proxmox": ("pvenode cert info", "scp root@NODE:/etc/pve/pve-root-ca.pem .  # for --ca-file"),
        },
    ),
    Check.HYPERVISOR_PERMISSION: Remedy(
        _NO_HYPERVISOR,
        "the hypervisor's administrator puts the provider's user into the socket's group",
        {ANY: ("usermod --append --groups libvirt PROVIDER_USER  # then start the provider again",)},
    ),
    Check.HYPERVISOR_CLOCK: Remedy(
        "Its records of who ended a VM, and its certificates and tickets, are of its clock.",
        "whoever runs the machine whose clock is wrong: the hypervisor's operator, or the provider's",
        {
            ANY: ("timedatectl set-ntp true",),
            "vsphere": ("govc host.date.info", "timedatectl set-ntp true  # where the provider runs"),
            "proxmox": ("chronyc tracking  # on the node", "timedatectl set-ntp true  # where the provider runs"),
        },
    ),
    Check.PRIVILEGE_MISSING: Remedy(
        "It is needed for {purpose}.",
        "the hypervisor's operator adds it to the role of the provider's account",
        {
            "proxmox": (
                "pveum role modify vmpower --privs {privilege} --append 1",
                "pveum acl list  # the role must be given on {place}, to the user, and with --privsep 1 to the token",
            ),
            "vsphere": ("govc role.update -a vmpower {privilege}", "govc permissions.ls"),
        },
    ),
    Check.VM_UNKNOWN: Remedy(
        "Nothing can be told of it, and nothing done to it.",
        "you: name a VM that there is; or the hypervisor's operator lets the provider's account see it",
        {ANY: ("{vmpower} list",)},
    ),
    Check.VM_UNCLEAR: Remedy(
        "Nothing is done to a VM whose name may mean several.", "you: name it by its id, or as PROVIDER/NAME"
    ),
    Check.NOT_GRACEFUL: Remedy("A shutdown would end with a hard power-off.", "as the sentence says"),
    "AGENT_MISSING": Remedy(
        _AGENT_WHY,
        "the VM's owner",
        {
            "libvirt": (
                f"printf '{_CHANNEL}' | virsh -c {{uri}} attach-device {{id}} /dev/stdin --config"
                "  # then stop and start it",
                *_INSTALL_QGA,
                *_QGA,
            ),
            "proxmox": ("qm set {id} --agent enabled=1  # then stop and start it", *_INSTALL_QGA, *_QGA),
            "vsphere": (
                "apt-get install open-vm-tools  # in a Linux guest; elsewhere dnf, zypper",
                "govc vm.guest.tools -mount {path}  # in a Windows guest, then run setup64.exe from that disk",
            ),
            "sim": ("{vmpower} forecast {vm}  # after `agent: up` in its script",),
        },
        what="It has no way to a guest agent.",
    ),
    "AGENT_STOPPED": Remedy(
        _AGENT_WHY,
        "the guest's owner",
        {
            "libvirt": (*_QGA, 'virsh -c {uri} qemu-agent-command {id} \'{{"execute":"guest-ping"}}\'  # it answers'),
            "proxmox": (*_QGA, "qm agent {id} ping  # it answers"),
            "vsphere": (
                "systemctl start open-vm-tools  # in a Linux guest; Red Hat, SUSE: vmtoolsd",
                "Start-Service VMTools  # in a Windows guest, in PowerShell",
                "vmware-toolbox-cmd stat running  # in the guest: they answer",
            ),
            "sim": ("{vmpower} forecast {vm}  # after `agent: up` in its script",),
        },
        what="Its guest agent does not run.",
    ),
    "AGENT_BUSY": Remedy(
        "Until it takes requests, the guest is not asked by it.",
        "nobody, if it passes within minutes; else the guest's owner",
        {ANY: ("{vmpower} forecast {vm}",)},
    ),
    "AGENT_UNKNOWN": Remedy(
        "The forecast cannot tell whether the guest would hear its agent.",
        "Proxmox VE's operator grants the privilege",
        {"proxmox": ("pveum role modify vmpower --privs VM.GuestAgent.Audit --append 1  # before 9: VM.Monitor",)},
    ),
    "AGENT_OUTDATED": Remedy(
        "Old tools may miss requests, and are not supported.",
        "the guest's owner",
        {"vsphere": ("govc vm.guest.tools -upgrade {path}", "apt-get install --only-upgrade open-vm-tools")},
    ),
    "ACPI_MISSING": Remedy(
        "When the agent is away, nothing else reaches the guest, and it is powered off hard.",
        "the VM's owner; it counts when the VM was stopped and started",
        {
            "libvirt": ("virt-xml --connect {uri} {id} --edit --features acpi=on",),
            "proxmox": ("qm set {id} --acpi 1",),
            "sim": ("{vmpower} forecast {vm}  # after `acpi: hears` in its script",),
        },
        what="It has no ACPI: there is no power button to press.",
    ),
    "RESTARTS": Remedy(
        "A guest that shuts down is started again, so that only a hard power-off keeps it off.",
        "the VM's owner",
        {"libvirt": ("virsh -c {uri} set-lifecycle-action {id} poweroff destroy --live --config",)},
    ),
    "PAUSED": Remedy(
        "Its processors are held: it hears nothing, and is powered off hard.",
        "the VM's owner resumes it",
        {
            "libvirt": ("virsh -c {uri} resume {id}",),
            "proxmox": ("{tool} resume {id}",),
            ANY: ("{vmpower} on {vm}",),
        },
    ),
    "SUSPENDED": Remedy(
        "It does not run, and its memory is saved: a hard power-off discards that.",
        "the VM's owner starts it",
        {
            "libvirt": (
                "virsh -c {uri} start {id}  # from its saved memory",
                "virsh -c {uri} dompmwakeup {id}  # one that sleeps",
            ),
            "proxmox": ("{tool} start {id}", "{tool} resume {id}  # one that sleeps"),
            "vsphere": ("govc vm.power -on {path}",),
            ANY: ("{vmpower} on {vm}",),
        },
    ),
    "LOCKED": Remedy(
        "While something else holds it, it is not asked; at the deadline the operation ends with LOCKED.",
        "whoever runs what holds it, if that does not end by itself",
        {
            "libvirt": ("virsh -c {uri} domjobinfo {id}", "virsh -c {uri} domjobabort {id}  # ends that work"),
            "proxmox": (
                "pvesh get /cluster/tasks",
                "{tool} unlock {id}  # only if no task holds it any more",
            ),
            "vsphere": ("govc tasks {path}", "govc task.cancel TASK  # ends that work"),
            ANY: ("{vmpower} forecast {vm}",),
        },
    ),
    "HA": Remedy(
        "Only HA stops it, and with force at the end of the time: NEVER and ASK are refused.",
        "the cluster's operator, if that is not wanted",
        {
            "proxmox": (
                "ha-manager status",
                "ha-manager set {sid} --state ignored  # HA leaves it alone",
                "ha-manager set {sid} --state disabled  # clears the state error; then started",
            )
        },
    ),
    "MANAGED": Remedy("What manages it may start it again, or replace it.", "whoever runs the solution that it names"),
    "QUESTION": Remedy(
        "Until a person answers, its hypervisor does nothing with it.",
        "the VM's owner",
        {"vsphere": ("govc vm.question -vm {path}", "govc vm.question -vm {path} -answer CHOICE")},
    ),
    "UNREACHED": Remedy(
        "Whether it runs is not known: nothing is begun, forced or judged.",
        "the hypervisor's operator",
        {
            "libvirt": ("virsh -c {uri} domstate {id} --reason",),
            "proxmox": ("pvecm status", "systemctl status pve-cluster pveproxy  # on its node"),
            "vsphere": ("govc host.info", "govc vm.info {path}"),
        },
    ),
}
"""By check, which for VMs is the contract's cause."""

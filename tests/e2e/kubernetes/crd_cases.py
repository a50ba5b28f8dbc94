"""Resources for test_crds: good ones, bad ones with the field and the sentence that are to be told, whole statuses."""

from datetime import UTC, datetime, timedelta
from typing import Any

from controller.enums import Signal
from controller.models import API_VERSION, PowerPlanStatus, Status
from controller.run_status import PowerRunStatus, Refusal, RunTier, RunVM
from controller.status_models import (
    Capabilities,
    Condition,
    HookStatus,
    LastPowerOff,
    OperationStatus,
    ProviderStatus,
    VirtualMachineStatus,
)
from protos.power.v1 import power_pb2 as pb

Document = dict[str, Any]

NOON = datetime(2030, 1, 1, 12, 0, 0, 123456, UTC)
CONDITION = Condition(
    type="Ready", status="True", reason="Off", message="As wanted.", last_transition_time=NOON, observed_generation=3
)
STATUS: dict[str, Status] = {
    "VirtualMachine": VirtualMachineStatus(
        id="id-1",
        phase="Off",
        power_state="Off",
        observed_generation=3,
        conditions=(CONDITION, CONDITION.model_copy(update={"type": "ProviderReachable"})),
        operation=OperationStatus(
            id="op-1",
            kind=pb.OPERATION_KIND_SHUTDOWN,
            state=pb.OPERATION_STATE_SUCCEEDED,
            start_time=NOON,
            end_time=NOON,
            observed_end_time=NOON,
            force_after=NOON,
            timeout=timedelta(minutes=2),
            generation=3,
            attempt=2,
            message="said",
            reason="kernel update",
        ),
        last_power_off=LastPowerOff(
            operation="op-1",
            outcome="FORCED",
            reason="TIMEOUT",
            signal="ACPI",
            start_time=NOON,
            completion_time=NOON,
            duration_seconds=120,
            timeout_seconds=120.5,
            hooks=(HookStatus(name="drain", state="FAILED", exit_code=3, output="no\n", duration_seconds=0.5),),
            message="It was forced.",
            requested_by="cn:vmpower-controller",
            on_behalf_of="VirtualMachine default/web (kubectl)",
            request_reason="kernel update",
        ),
    ),
    "Provider": ProviderStatus(
        phase="Ready",
        observed_generation=3,
        type="sim",
        version="1.2.3",
        capabilities=Capabilities(signals=("ACPI",), guest_exec=True, snapshot=True),
        vm_count=5,
        declared_count=4,
        conditions=(CONDITION,),
    ),
    "PowerPlan": PowerPlanStatus(conditions=(CONDITION,)),
    "PowerRun": PowerRunStatus(
        phase="Held",
        run="tonight-1",
        message="Taken over by run fire.",
        refusals=(Refusal(field="spec.others", message="write Ignore"),),
        aborted=True,
        began_at=NOON,
        ends=NOON + timedelta(minutes=12),
        over_at=NOON + timedelta(minutes=2),
        slack="-3.5s",
        tiers=(
            RunTier(
                name="apps",
                began_at=NOON,
                until=NOON,
                over_at=NOON,
                vms=(
                    RunVM(
                        vm="lab/app",
                        id="id-1",
                        outcome="FORCED",
                        reason="TIMEOUT",
                        operation="op-1",
                        off=True,
                        ended_at=NOON,
                        message="It was forced.",
                        up=False,
                    ),
                ),
            ),
        ),
        record="H4sI",
        conditions=(CONDITION,),
    ),
}


def vm(lifecycle: Any = None, **spec: Any) -> Document:
    return resource("VirtualMachine", {"providerRef": {"name": "lab"}, "lifecycle": lifecycle or {}, **spec})


def provider(**runtime: Any) -> Document:
    return resource("Provider", {"type": "sim", "runtime": runtime})


def shared(*access: Document) -> Document:
    return resource("Provider", {"type": "sim", "runtime": {"endpoint": "unix:/p"}, "access": list(access)})


def resource(kind: str, spec: Document) -> Document:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "web"}, "spec": spec}


def plan(*tiers: Document, total: str = "10m", reserve: str = "0s", **more: Any) -> Document:
    written = {"budget": {"total": total, "reserve": reserve}, "tiers": list(tiers or (TIER,)), **more}
    return resource("PowerPlan", written)


def members(**written: Any) -> Document:
    return plan({"name": "apps", "members": [written]})


def nut(**written: Any) -> Document:
    ups: Document = {"ups": [{"name": "lab@host"}], "user": "vmpower", "passwordFile": "password"}
    return plan(triggers=[{"nut": ups | written}])


def scheduled(**written: Any) -> Document:
    return plan(triggers=[{"schedule": {"cron": "0 22 * * FRI"} | written}])


def run(**spec: Any) -> Document:
    return resource("PowerRun", {"planRef": {"name": "night"}} | spec)


def stop(*hooks: Document) -> Document:
    return vm({"preStop": {"hooks": list(hooks)}})


TIER: Document = {"name": "apps", "members": [{"vms": ["lab/web"]}]}
ONE_WAY = "give exactly one of vms, providerRef with labels, and selector"
SNAP: Document = {"snapshot": {}}
EXEC: Document = {"exec": {"command": ["/bin/sync"]}}
ONE_HANDLER = "give exactly one of exec, httpGet and snapshot"
A_HANDLER = "give exec, httpGet or snapshot, or several hooks"
TIME = "must be a time of more than 0s and at most 24h with its unit, such as 90s, 2m or 1m30s"
NO_TARGET = "give either url, or port with path"
ONLY_WITH_SAVE = "has no meaning unless escalation is Save"
FILES = {"caFile": "ca", "certFile": "cert", "keyFile": "key"}
TLS = {"secretRef": {"name": "vmpower-client"}}
ONE_TLS = "give either secretRef, or controllerCertificate: true"

GOOD = {
    "only a provider": vm(),
    **{f"a timeout of {time}": vm({"gracefulShutdownTimeout": time})
       for time in ("120s", "2m", "1m30s", "1.5h", "500ms", ".5s", "24h", "+5s")},
    "ACPI never again": vm({"signalPolicy": {"order": ["ACPI", "GUEST_AGENT"], "resendInterval": "0s"}}),
    "every signal": vm({"signalPolicy": {"order": [str(signal) for signal in Signal]}}),
    "Ask with OffGraceful": vm({"escalation": "Ask"}, powerState="OffGraceful"),
    "Save": vm({"escalation": "Save"}),
    "Save or Force": vm({"escalation": "Save", "saveFallback": "Force"}, powerState="OffGraceful"),
    "Off with Never": vm({"escalation": "Never"}, powerState="Off"),
    "a hook with all": vm({"preStop": EXEC | {"name": "sync", "timeout": "5s", "failurePolicy": "Abort"}}),
    "a snapshot with all": vm({"postStart": {"snapshot": {"name": "a", "description": "b", "includeMemory": True}}}),
    "a whole url": stop({"httpGet": {"url": "http://192.0.2.1/", "headers": {"X-A": "b"}, "expectStatus": 204}}),
    "a host": stop({"httpGet": {"scheme": "HTTPS", "host": "192.0.2.1", "port": 443, "path": "/drain"}}),
    "the vm's own address": vm({"preStop": {"httpGet": {"scheme": "HTTP", "port": 8080, "path": "/drain"}}}),
    "an argument that is empty": stop({"exec": {"command": ["/bin/set", ""]}}),
    "no hooks": stop(),
    "an empty hook": vm({"preStop": {}, "postStart": {}}),
    "several handlers in one hook": vm(
        {"preStop": EXEC | SNAP | {"httpGet": {"port": 8080}, "timeout": "5s", "failurePolicy": "Abort"}}),
    "hooks without names": stop(SNAP, EXEC, SNAP),
    "a hook with the name of its own place": stop(SNAP | {"name": "hook-1"}, SNAP),
    "a hook with the name of a place that is named": stop(SNAP | {"name": "hook-2"}, SNAP | {"name": "two"}),
    "a hook with the name of no place": stop(SNAP, SNAP | {"name": "hook-3"}),
    "guest credentials": vm({"guestCredentialsSecretRef": {"name": "guest"}}),
    "a provider on a socket": provider(endpoint="unix:/run/p.sock"),
    "a provider on loopback": provider(endpoint="127.0.0.1:9443"),
    "a provider with tls": provider(endpoint="p.example:9443", tls=TLS),
    "a provider of the operator's": provider(endpoint="p.example:9443", tls={"controllerCertificate": True}),
    "access of all kinds": shared(
        {"namespaces": {"names": ["a"]}, "allow": ["power"]},
        {"namespaces": {"selector": {}}, "allow": ["power", "exec", "http", "snapshot"],
         "vms": {"names": ["web"], "labels": {"team": "a"}, "pool": "p", "folder": "/dc/vm/a"}},
        {"namespaces": {"selector": {"matchLabels": {"tenant": "yes"}}}, "allow": ["power"]},
    ),
    "a provider that says how it is run": resource("Provider", {
        "type": "vsphere", "endpoint": "https://vcenter.example", "insecureSkipVerify": True,
        "credentialSecretRef": {"name": "login", "namespace": "infra"},
        "defaults": {"datastore": "fast", "cluster": "one", "folder": "vms"},
        "rateLimit": {"qps": 10, "burst": 20}, "healthCheck": {"enabled": True, "interval": "30s"},
        "runtime": {
            "mode": "Remote", "image": "registry.example/provider:v1", "replicas": 2,
            "service": {"port": 9443, "tls": {"enabled": True, "secretRef": {"name": "tls"}}},
            "resources": {"limits": {"cpu": "2"}}, "env": [{"name": "A", "value": "b"}], "logLevel": "debug",
        },
    }),
    "a provider that says nothing of how it is run": resource("Provider", {"type": "libvirt"}),
    "a vm that is made, too": vm(
        powerState="On", classRef={"name": "small"}, imageRef={"name": "linux", "namespace": "infra"},
        networks=[{"name": "net", "networkRef": {"name": "app"}, "ipAddress": "192.0.2.4", "prefix": 24}],
        disks=[{"name": "data", "sizeGiB": 10, "scsi": {"controller": 1}}], resources={"cpu": 2, "memoryMiB": 512},
        userData={"cloudInit": {"inline": "#cloud-config"}}, placement={"cluster": "one", "host": "esx1"},
        snapshot={"revertToRef": {"name": "before"}}, tags=["web"]),
    "a plan of one tier": plan(),
    "a plan with all that it may say": plan(
        TIER | {"minimum": "20s", "atDeadline": "Force"},
        {"name": "batch", "members": [{"providerRef": {"name": "pve"}, "labels": {"tags": "batch"}}], "after": []},
        {"name": "databases", "members": [{"selector": {"matchLabels": {"tier": "db"}}}], "after": ["apps", "batch"]},
        reserve="90s", others="Last", self="Last",
        bringUp={"what": "StoppedByThisRun", "ready": {"signal": "Agent", "timeout": "5m", "onTimeout": "Stop"}}),
    "what is ready": plan(
        TIER | {"ready": {"tcp": {"port": 5432}, "timeout": "2m"}},
        bringUp={"ready": {"signal": "Power", "exec": {"command": ["pg_isready", ""]}, "onTimeout": "Stop"}}),
    "memory that is saved": plan(TIER | {"atDeadline": "Save", "saveFallback": "Force", "saveTime": "3m"}),
    "the controller's login": plan(triggers=[{"nut": {"ups": [{"name": "lab"}], "secretRef": {"name": "ups"}}}]),
    "a run of some tiers": run(tiers=["batch"]),
    "what a UPS says": nut(
        ups=[{"name": "lab@host:3493"}, {"name": "two@[::1]", "powerValue": 2}], minimumSupplies=3, tls={"ca": "ca"},
        onBattery={"after": "2m", "tiers": ["apps"]}, below={"charge": 40, "runtime": "10m"}, lostContact="30s",
        backOnLine="1m", margin="1m", pollEvery="100ms"),
    "set times": plan(bringUp={}, triggers=[
        {"schedule": {"cron": "0 22 * * FRI", "timeZone": "America/Argentina/Buenos_Aires", "bringUpAt": "@weekly"}},
        {"schedule": {"cron": "*/5  1-5,7 L JAN-MAR,12 MON#1"}}]),
    "a run": run(),
    "an emergency": run(reason="fire", emergency=True),
}  # fmt: skip

BAD: list[tuple[Document, str, str]] = [
    *((vm({"gracefulShutdownTimeout": time}), "spec.lifecycle.gracefulShutdownTimeout", TIME)
      for time in ("-5s", "abc", "0s", "0", "", "5", "25h", "24h0.1s", "5s or so", "99999999999h")),
    (vm({"gracefulShutdownTimeout": 120}), "spec.lifecycle.gracefulShutdownTimeout", "must be of type string"),
    (vm({"preStop": EXEC | {"timeout": "25h"}}), "spec.lifecycle.preStop.timeout", TIME),
    (stop(SNAP, EXEC | {"timeout": "0s"}), "spec.lifecycle.preStop.hooks[1].timeout", TIME),
    (vm({"signalPolicy": {"resendInterval": "-1s"}}), "spec.lifecycle.signalPolicy.resendInterval", "must be a time"),
    (vm({"signalPolicy": {"order": ["SHOUT"]}}), "spec.lifecycle.signalPolicy.order[0]", '"GUEST_AGENT"'),
    (vm(powerState="off"), "spec.powerState", 'supported values: "On", "Off", "OffGraceful"'),
    (vm({"escalation": "Sometimes"}), "spec.lifecycle.escalation", 'supported values: "Force", "Never", "Ask"'),
    (vm({"escalation": "Ask"}, powerState="Off"), "spec.lifecycle.escalation", "take escalation Ask out, or write"),
    (vm({"saveFallback": "Never"}), "spec.lifecycle.saveFallback", ONLY_WITH_SAVE),
    (vm({"escalation": "Force", "saveFallback": "Force"}), "spec.lifecycle.saveFallback", ONLY_WITH_SAVE),
    (vm({"escalation": "Save", "saveFallback": "Ask"}), "spec.lifecycle.saveFallback", 'supported values: "Force"'),
    (vm({"preStop": {"timeout": "5s"}}), "spec.lifecycle.preStop", A_HANDLER),
    (vm({"preStop": EXEC | SNAP | {"name": "both"}}), "spec.lifecycle.preStop", "a name is for one of exec"),
    (vm({"postStart": {"name": "nothing"}}), "spec.lifecycle.postStart", A_HANDLER),
    (stop(SNAP, {"name": "nothing"}), "spec.lifecycle.preStop.hooks[1]", ONE_HANDLER),
    (stop(EXEC | SNAP), "spec.lifecycle.preStop.hooks[0]", ONE_HANDLER),
    (vm({"preStop": EXEC | {"hooks": [SNAP]}}), "spec.lifecycle.preStop", "nothing else stands beside hooks"),
    (vm({"preStop": {"hooks": [SNAP], "timeout": "5s"}}), "spec.lifecycle.preStop", "nothing else stands beside hooks"),
    (vm({"preStop": [EXEC]}), "spec.lifecycle.preStop[0].exec", "unknown field"),
    (stop(SNAP | {"name": "a"}, EXEC | {"name": "a"}), "spec.lifecycle.preStop.hooks", "two hooks have the same name"),
    (stop(SNAP, SNAP | {"name": "hook-1"}), "spec.lifecycle.preStop.hooks", "hook-1, hook-2 and so on by its place"),
    (vm({"preStop": EXEC | {"failurePolicy": "Maybe"}}), "spec.lifecycle.preStop.failurePolicy", '"Continue", "Abort"'),
    (vm({"preStop": {"exec": {}}}), "spec.lifecycle.preStop.exec.command", "Required value"),
    (vm({"preStop": {"exec": {"command": []}}}), "spec.lifecycle.preStop.exec.command", "at least 1 items"),
    (vm({"preStop": {"exec": {"command": [""]}}}), "spec.lifecycle.preStop.exec.command", "the first item of command"),
    (vm({"preStop": {"httpGet": {"path": "/"}}}), "spec.lifecycle.preStop.httpGet", NO_TARGET),
    (stop({"httpGet": {"url": "http://a/", "host": "a"}}), "spec.lifecycle.preStop.hooks[0].httpGet", NO_TARGET),
    (stop({"httpGet": {"host": "a", "port": 65536}}), "spec.lifecycle.preStop.hooks[0].httpGet.port", "65535"),
    (vm({"guestCredentialsSecretRef": {}}), "spec.lifecycle.guestCredentialsSecretRef.name", "Required value"),
    (resource("VirtualMachine", {"powerState": "On"}), "spec.providerRef", "Required value"),
    (resource("VirtualMachine", {"providerRef": {"name": "My_Lab"}}), "spec.providerRef.name", "should match"),
    (resource("Provider", {"type": "", "runtime": {"endpoint": "unix:/p"}}), "spec.type", "at least 1 chars"),
    (provider(endpoint="p.example:9443"), "spec.runtime.tls", "tls (secretRef, or controllerCertificate) is needed"),
    (provider(endpoint="localhost.evil:1"), "spec.runtime.tls", "any address but a unix socket or loopback"),
    (provider(endpoint="p.example:9443", tls={"caFile": "ca"}), "spec.runtime.tls", "name a Secret"),
    (provider(endpoint="p.example:9443", tls={}), "spec.runtime.tls", ONE_TLS),
    (provider(endpoint="p.example:9443", tls=TLS | {"controllerCertificate": True}), "spec.runtime.tls", ONE_TLS),
    (shared({"namespaces": {"names": ["a"]}}), "spec.access[0].allow", "Required value"),
    (shared({"namespaces": {"names": ["a"]}, "allow": []}), "spec.access[0].allow", "at least 1 items"),
    (shared({"namespaces": {"names": ["a"]}, "allow": ["all"]}), "spec.access[0].allow[0]", "supported values"),
    (shared({"namespaces": {}, "allow": ["power"]}), "spec.access[0].namespaces", "give either names or selector"),
    (shared({"namespaces": {"names": ["a"], "selector": {}}, "allow": ["power"]}), "spec.access[0].namespaces",
     "give either names or selector"),
    (shared({"namespaces": {"names": ["a"]}, "vms": {}, "allow": ["power"]}), "spec.access[0].vms", "leave vms out"),
    (plan(total="0s"), "spec.budget.total", TIME),
    (plan(total="5m", reserve="5m"), "spec.budget.reserve", "must be less than total"),
    (plan(total="5m", reserve="25h"), "spec.budget.reserve", "must be a time of 0s to 24h"),
    (resource("PowerPlan", {"tiers": [TIER]}), "spec.budget", "Required value"),
    (resource("PowerPlan", {"budget": {"total": "5m"}, "tiers": []}), "spec.tiers", "at least 1 items"),
    (plan(TIER, TIER), "spec.tiers", "two tiers have the same name"),
    (plan(TIER | {"minimum": "6m"}, total="7m", reserve="2m"), "spec.tiers", "a minimum is more than the budget"),
    (plan(TIER | {"name": "My Apps"}), "spec.tiers[0].name", "should match"),
    (plan(TIER | {"members": []}), "spec.tiers[0].members", "at least 1 items"),
    (plan(TIER | {"atDeadline": "Sleep"}), "spec.tiers[0].atDeadline", 'supported values: "Respect"'),
    (plan(TIER | {"saveFallback": "Force"}), "spec.tiers[0].saveFallback", "has no meaning unless atDeadline is Save"),
    (plan(TIER | {"atDeadline": "Stop", "saveTime": "1m"}), "spec.tiers[0].saveTime", "has no meaning with atDeadline"),
    (members(), "spec.tiers[0].members[0]", ONE_WAY),
    (members(vms=["lab/web"], selector={"matchLabels": {"a": "b"}}), "spec.tiers[0].members[0]", ONE_WAY),
    (members(providerRef={"name": "lab"}), "spec.tiers[0].members[0].labels", "providerRef and labels belong together"),
    (members(selector={"matchLabels": {}}), "spec.tiers[0].members[0].selector.matchLabels", "at least 1 properties"),
    (members(vms=["web"]), "spec.tiers[0].members[0].vms[0]", "should match"),
    (plan(others="Force"), "spec.others", "supported values"),
    (plan(self="First"), "spec.self", 'supported values: "Last"'),
    (plan(bringUp={"ready": {"timeout": "0s"}}), "spec.bringUp.ready.timeout", TIME),
    (plan(bringUp={"ready": {"tcp": {"port": 0}}}), "spec.bringUp.ready.tcp.port", "greater than or equal to 1"),
    (plan(bringUp={"ready": {"exec": {"command": []}}}), "spec.bringUp.ready.exec.command", "at least 1 items"),
    (plan(bringUp={"ready": {"exec": {"command": ["", "a"]}}}), "spec.bringUp.ready.exec.command", "must not be empty"),
    (plan(bringUp={"ready": {"exec": {"command": ["a"] * 17}}}), "spec.bringUp.ready.exec.command", "at most 16 items"),
    (plan(bringUp={"ready": {"tcp": {"port": 1}, "signal": "Agent"}}), "spec.bringUp.ready", "give one of signal"),
    (plan(TIER | {"ready": {"signal": "Agent"}}), "spec.tiers", "ready has no meaning without bringUp"),
    (nut(ups=[{"name": "a b"}]), "spec.triggers[0].nut.ups[0].name", "should match"),
    (nut(ups=[{"name": "a"}, {"name": "a"}]), "spec.triggers[0].nut.ups", "two have the same name"),
    (nut(minimumSupplies=2), "spec.triggers[0].nut.minimumSupplies", "is more than all powerValues together"),
    (nut(secretRef={"name": "ups"}), "spec.triggers[0].nut", "give either user and passwordFile"),
    (nut(user=None), "spec.triggers[0].nut", "give either user and passwordFile"),
    (nut(below={}), "spec.triggers[0].nut.below", "give charge, runtime or both"),
    (nut(pollEvery="50ms"), "spec.triggers[0].nut.pollEvery", "must be a time of 100ms to 24h"),
    (plan(triggers=[{}]), "spec.triggers[0]", "give either nut or schedule"),
    (plan(triggers=nut()["spec"]["triggers"] * 2), "spec.triggers", "give one nut at most"),
    (plan(triggers=scheduled()["spec"]["triggers"] * 11), "spec.triggers", "at most 10 items"),
    (scheduled(cron="* * * *"), "spec.triggers[0].schedule.cron", "write five fields"),
    (scheduled(cron="@reboot"), "spec.triggers[0].schedule.cron", "write five fields"),
    (scheduled(timeZone="Berlin!"), "spec.triggers[0].schedule.timeZone", "should match"),
    (scheduled(bringUpAt="@daily"), "spec.triggers", "bringUpAt has no meaning without bringUp"),
    (run(planRef={"name": "My Plan"}), "spec.planRef.name", "should match"),
    (run(planRef={}), "spec.planRef.name", "Required value"),
    (run(reason="a" * 257), "spec.reason", "256"),
]  # fmt: skip

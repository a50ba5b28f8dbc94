"""Which Providers are the operator's own. Pure.

Who may write a Provider decides where the controller connects to: to a socket in its own pod, with its own certificate,
with a guest's password. So all of that is for Providers of the operator alone: those in the controller's namespace, and
those that the operator names together with their endpoint, which who may edit them cannot change then.
"""

from dataclasses import dataclass

from common.addresses import is_local
from controller.models import Provider


@dataclass(frozen=True, slots=True)
class Trust:
    """What the operator says about it.

    Attributes:
        namespace: the controller's own, whose Providers are trusted; "" for none.
        providers: those that are trusted beside them, as `NAMESPACE/NAME=ENDPOINT`.
        everybody: all Providers are trusted, for who writes manifests is the operator.
        files: TLS files may be named in a Provider, for the same reason.
        certificate: whether the controller has a certificate of its own.
    """

    namespace: str = ""
    providers: frozenset[str] = frozenset()
    everybody: bool = False
    files: bool = False
    certificate: bool = False

    def covers(self, provider: Provider) -> bool:
        """Whether a Provider, as it is now, is one of the operator's."""
        meta = provider.metadata
        entry = f"{meta.namespace}/{meta.name}={provider.spec.runtime.endpoint}"
        return self.everybody or meta.namespace == self.namespace or entry in self.providers

    def objection(self, provider: Provider) -> str:
        """Why the controller does not connect to a Provider, with who acts next; empty: it does."""
        runtime, trusted = provider.spec.runtime, self.covers(provider)
        remedy = "the controller's operator names it in --trusted-providers, or it names a secretRef of its own"
        if runtime.endpoint is not None and is_local(runtime.endpoint) and not trusted:
            return (
                f"spec.runtime.endpoint {runtime.endpoint} is in the controller's own pod or host, which is for "
                "Providers of the controller's namespace; the controller's operator names it in --trusted-providers."
            )
        if runtime.tls is None or runtime.endpoint is None:
            return ""
        if runtime.tls.files and not self.files:
            return "spec.runtime.tls: files are for manifests in a directory; its owner names a Secret in secretRef."
        if runtime.tls.controller_certificate and not trusted:
            return f"spec.runtime.tls: the controller's certificate is for Providers that it trusts; {remedy}."
        if runtime.tls.controller_certificate and not self.certificate:
            return "spec.runtime.tls: the controller has no certificate; its operator sets --tls-cert and its kind."
        return ""


EVERYBODY = Trust(everybody=True, files=True, certificate=True)
"""For one operator who writes all."""

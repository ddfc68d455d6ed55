"""The groups that Headrace adds to Lambda's properties: function, retryBackoff, aws, poller. Pure."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from headrace.spec_base import ArnText, HttpUrl, Number, Open, Part, Text, Whole, allowed, refuse

INVOCATIONS_PATH = "/2015-03-31/functions/function/invocations"
"""Where the Runtime Interface Emulator of a Lambda container image takes events."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]")
_OWN_PREFIX = "headrace-"
_OWN_HEADERS = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

Label = Annotated[
    str,
    Field(
        strict=True,
        max_length=63,
        pattern="^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
        json_schema_extra=allowed("lower-case letters, digits and -, at most 63 characters (a DNS-1123 label)"),
    ),
]
Subdomain = Annotated[
    str,
    Field(
        strict=True,
        max_length=253,
        pattern="^[a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)*$",
        json_schema_extra=allowed("lower-case letters, digits, - and ., at most 253 characters (a DNS-1123 subdomain)"),
    ),
]


class Service(Part):
    """A Kubernetes Service."""

    name: Label
    """Name."""
    namespace: Label | None = None
    """Namespace; default the mapping's."""
    port: Annotated[Whole, Field(ge=1, le=65_535)]
    """Port."""
    path: (
        Annotated[
            str,
            Field(
                strict=True,
                max_length=2048,
                pattern=r"^/[^\s#]*$",
                json_schema_extra=allowed("a path that begins with / and holds no blank"),
            ),
        ]
        | None
    ) = None
    """Path; default that of the Runtime Interface Emulator for protocol lambda, else /."""


class Function(Part):
    """How the function is reached: exactly one of url and service."""

    url: HttpUrl | None = None
    """Full URL, posted to exactly as given."""
    service: Service | None = None
    """A Kubernetes Service."""
    protocol: Literal["lambda", "http", "cloudevents"] = "lambda"
    """lambda: the Invoke API, which Lambda container images speak; http: the event as a plain POST; cloudevents."""
    name: (
        Annotated[
            str,
            Field(
                strict=True,
                max_length=193,
                pattern="^[a-zA-Z0-9_-]{1,64}(:[a-zA-Z0-9$_-]{1,128})?$",
                json_schema_extra=allowed("a function name, NAME or NAME:QUALIFIER, of letters, digits, - and _"),
            ),
        ]
        | None
    ) = None
    """Name in the function's ARN; default the mapping's."""
    arn: ArnText | None = None
    """ARN as failure records tell it; default made of the source's region and account and the name."""
    timeout_seconds: Annotated[Whole, Field(ge=1, le=900)] = 30
    """Time a call may take."""
    headers: Annotated[
        dict[Text, Annotated[str, Field(strict=True, max_length=8192)]], Field(max_length=50, default_factory=dict)
    ]
    """Further request headers."""

    @field_validator("headers")
    @classmethod
    def _sendable(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if _TOKEN.fullmatch(name) is None:
                raise refuse("must have valid HTTP header names (letters, digits and -)")
            if name.lower() in _OWN_HEADERS or name.lower().startswith(_OWN_PREFIX):
                raise refuse(f"must not set {name}, which Headrace sets itself")
            if _UNPRINTABLE.search(value) is not None:
                raise refuse(f"must have a value without line breaks and control characters for {name}")
        if len({name.lower() for name in headers}) < len(headers):
            raise refuse("must name each header once; upper and lower case are the same")
        return headers

    @property
    def default_path(self) -> str:
        """Path of a service that names none."""
        return INVOCATIONS_PATH if self.protocol == "lambda" else "/"


class RetryBackoff(Part):
    """Pauses between retries: exponential with full jitter."""

    initial_seconds: Annotated[Number, Field(ge=0.01, le=3600)] = 1.0
    """Upper bound of the first pause."""
    maximum_seconds: Annotated[Number, Field(ge=0.01, le=3600)] = 60.0
    """Upper bound of every pause."""


class SecretRef(Part):
    """A Secret in the mapping's namespace."""

    name: Subdomain
    """Name."""


class Credentials(Part):
    """AWS credentials."""

    secret_ref: SecretRef
    """Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if needed, AWS_SESSION_TOKEN."""


class KeyRef(Part):
    """A key of a Secret or ConfigMap in the mapping's namespace."""

    name: Subdomain
    """Name."""
    key: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=253,
            pattern="^[-._a-zA-Z0-9]+$",
            json_schema_extra=allowed("a key of letters, digits, -, _ and ."),
        ),
    ] = "ca.crt"
    """Key."""


class CaBundle(Part):
    """Certificates of the authorities to trust, PEM: exactly one of configMapRef and secretRef."""

    config_map_ref: KeyRef | None = None
    """In a ConfigMap."""
    secret_ref: KeyRef | None = None
    """In a Secret; only the pod reads it."""


class Aws(Part):
    """How AWS, or what stands in for it, is reached."""

    region: (
        Annotated[
            str,
            Field(
                strict=True,
                max_length=64,
                pattern="^[a-z]{2,}(-[a-z]+)+-[0-9]+$",
                json_schema_extra=allowed("a region such as eu-west-1"),
            ),
        ]
        | None
    ) = None
    """Region; default the source's."""
    endpoint_url: HttpUrl | None = None
    """Endpoint of every AWS service, for emulators and private endpoints."""
    credentials: Credentials | None = None
    """Credentials; default what the pod's environment offers (IRSA, Pod Identity, instance role)."""
    role_arn: ArnText | None = None
    """Role to assume; also the invokeIdentityArn in events."""
    ca_bundle: CaBundle | None = None
    """Authorities that vouch for AWS instead of the public ones; for pods. Elsewhere AWS_CA_BUNDLE names a file."""


class Poller(Part):
    """The pods that poll; pieces of the Kubernetes API are passed on as they are."""

    service_account_name: Subdomain | None = None
    """ServiceAccount to run under; default one of its own."""
    service_account_annotations: Annotated[
        dict[Text, Annotated[str, Field(strict=True, max_length=65_536)]], Field(max_length=64, default_factory=dict)
    ]
    """Annotations of the ServiceAccount that is made, such as the role's ARN for IRSA."""
    min_replicas: Annotated[Whole, Field(ge=1, le=1000)] = 1
    """Least pods."""
    max_replicas: Annotated[Whole, Field(ge=1, le=1000)] = 10
    """Most pods."""
    shards_per_replica: Annotated[Whole, Field(ge=1, le=1000)] = 16
    """Shards a pod is meant to run."""
    checkpoint_table: (
        Annotated[
            str,
            Field(
                strict=True,
                min_length=3,
                max_length=255,
                pattern=r"^[a-zA-Z0-9_.-]+$",
                json_schema_extra=allowed("a table's name: 3 to 255 of a-z, A-Z, 0-9, _, . and -"),
            ),
        ]
        | None
    ) = None
    """DynamoDB table that keeps leases and checkpoints, for large streams; default ShardLease objects."""
    image: Annotated[str, Field(strict=True, min_length=1, max_length=512)] | None = None
    """Image; default the operator's own."""
    image_pull_secrets: Annotated[tuple[Open, ...], Field(max_length=32)] = ()
    """Kubernetes: imagePullSecrets of the pods."""
    resources: Open | None = None
    """Kubernetes: resources of the container."""
    node_selector: Annotated[dict[Text, Text], Field(max_length=64, default_factory=dict)]
    """Kubernetes: nodeSelector of the pods."""
    tolerations: Annotated[tuple[Open, ...], Field(max_length=64)] = ()
    """Kubernetes: tolerations of the pods."""
    affinity: Open | None = None
    """Kubernetes: affinity of the pods."""
    env: Annotated[tuple[Open, ...], Field(max_length=256)] = ()
    """Kubernetes: further env of the container."""
    volumes: Annotated[tuple[Open, ...], Field(max_length=64)] = ()
    """Kubernetes: further volumes of the pods."""
    volume_mounts: Annotated[tuple[Open, ...], Field(max_length=64)] = ()
    """Kubernetes: further volumeMounts of the container."""
    topology_spread_constraints: Annotated[tuple[Open, ...], Field(max_length=32)] | None = None
    """Kubernetes: topologySpreadConstraints of the pods; default over nodes, where that works. A labelSelector need not
    be given."""
    labels: Annotated[dict[Text, Text], Field(max_length=64, default_factory=dict)]
    """Further labels of the pods."""
    annotations: Annotated[
        dict[Text, Annotated[str, Field(strict=True, max_length=65_536)]], Field(max_length=64, default_factory=dict)
    ]
    """Further annotations of the pods."""
    priority_class_name: Subdomain | None = None
    """Kubernetes: priorityClassName of the pods."""

"""KEDA's external scaler: the autoscaler policy, asked over gRPC how many nodes there should be.

KEDA makes a HorizontalPodAutoscaler of what `GetMetricSpec` says and asks `GetMetrics` for its value.  That autoscaler
wants ceil(value / target) pods of a metric with an average value as target.  The value here is the number of nodes that
the policy wants and the target is 1, so it wants what the policy wants: bounds, steps and stabilisation are decided
once, in the policy.

The messages are those of KEDA's ``externalscaler.proto``, described here as data, so that no generated code has to
match the version of protobuf that is installed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

from testbed import installing
from testbed.errors import MachineError, ToolError

SERVICE = "externalscaler.ExternalScaler"
METRIC = "testbed-wanted-nodes"
PORT = 9465
_TEXT, _BOOL, _INT64, _DOUBLE, _MESSAGE = 9, 8, 3, 1, 11  # types of FieldDescriptorProto
_ONE, _MANY = 1, 3
_PUSH_S = 1.0  # how often a stream looks whether its answer has changed
_MESSAGES: dict[str, tuple[tuple[str, int, int, str], ...]] = {
    "ScaledObjectRef": (("name", _ONE, _TEXT, ""), ("namespace", _ONE, _TEXT, ""),
                        ("scalerMetadata", _MANY, _MESSAGE, "ScaledObjectRef.ScalerMetadataEntry")),
    "IsActiveResponse": (("result", _ONE, _BOOL, ""),),
    "GetMetricSpecResponse": (("metricSpecs", _MANY, _MESSAGE, "MetricSpec"),),
    "MetricSpec": (("metricName", _ONE, _TEXT, ""), ("targetSize", _ONE, _INT64, ""),
                   ("targetSizeFloat", _ONE, _DOUBLE, "")),
    "GetMetricsRequest": (("scaledObjectRef", _ONE, _MESSAGE, "ScaledObjectRef"), ("metricName", _ONE, _TEXT, "")),
    "GetMetricsResponse": (("metricValues", _MANY, _MESSAGE, "MetricValue"),),
    "MetricValue": (("metricName", _ONE, _TEXT, ""), ("metricValue", _ONE, _INT64, ""),
                    ("metricValueFloat", _ONE, _DOUBLE, "")),
}  # fmt: skip


class Messages:
    """The message classes of the interface, by name."""

    def __init__(self) -> None:
        """Make them of their description.

        Raises:
            MachineError: grpcio or protobuf is not installed.
        """
        try:
            from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
        except ImportError as error:
            raise _lacking(error) from error
        file = descriptor_pb2.FileDescriptorProto(
            name="externalscaler.proto", package="externalscaler", syntax="proto3"
        )
        for name, fields in _MESSAGES.items():
            _add_fields(file.message_type.add(name=name), fields)
        entry = file.message_type[0].nested_type.add(name="ScalerMetadataEntry")
        entry.options.map_entry = True
        _add_fields(entry, (("key", _ONE, _TEXT, ""), ("value", _ONE, _TEXT, "")))
        pool = descriptor_pool.DescriptorPool()
        pool.Add(file)
        self._class_of = {
            name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"externalscaler.{name}"))
            for name in _MESSAGES
        }

    def __getitem__(self, name: str) -> Any:
        """Return the class of a message."""
        return self._class_of[name]


def _add_fields(message: Any, fields: tuple[tuple[str, int, int, str], ...]) -> None:
    for number, (name, label, kind, of) in enumerate(fields, start=1):
        typed = {"type_name": f".externalscaler.{of}"} if of else {}
        message.field.add(name=name, number=number, label=label, type=kind, json_name=name, **typed)


class ExternalScaler:
    """Answers KEDA; `close` ends it."""

    def __init__(self, wanted: Callable[[], int], address: str) -> None:
        """Answer at an address (``host:port``), in threads; `wanted` returns how many nodes there should be.

        Raises:
            MachineError: grpcio is not installed.
            ToolError: the address cannot be had.
        """
        try:
            import grpc
        except ImportError as error:
            raise _lacking(error) from error
        self._wanted, self._messages = wanted, Messages()
        self._over = threading.Event()
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=4, thread_name_prefix="scaler"))
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, self._handlers(grpc)),))
        try:
            self.port = int(self._server.add_insecure_port(address))
        except RuntimeError as error:
            raise ToolError(
                f"serving the external scaler at {address}", str(error), "choose another address"
            ) from error
        self._server.start()

    def close(self) -> None:
        """Answer no more."""
        self._over.set()
        self._server.stop(None).wait()

    def _handlers(self, grpc: Any) -> dict[str, Any]:
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        rows = {
            "IsActive": (unary, self._is_active, "ScaledObjectRef"),
            "StreamIsActive": (stream, self._stream_is_active, "ScaledObjectRef"),
            "GetMetricSpec": (unary, self._metric_spec, "ScaledObjectRef"),
            "GetMetrics": (unary, self._metrics, "GetMetricsRequest"),
        }
        return {
            name: kind(
                answer,
                request_deserializer=self._messages[asked].FromString,
                response_serializer=lambda message: message.SerializeToString(),
            )
            for name, (kind, answer, asked) in rows.items()
        }

    def _is_active(self, _reference: Any, _context: Any) -> Any:
        return self._messages["IsActiveResponse"](result=self._wanted() > 0)

    def _stream_is_active(self, _reference: Any, context: Any) -> Iterator[Any]:
        """Send the answer at once, and again whenever it changes."""
        said: bool | None = None
        while context.is_active() and not self._over.is_set():
            if (active := self._wanted() > 0) != said:
                said = active
                yield self._messages["IsActiveResponse"](result=active)
            self._over.wait(_PUSH_S)

    def _metric_spec(self, _reference: Any, _context: Any) -> Any:
        spec = self._messages["MetricSpec"](metricName=METRIC, targetSize=1, targetSizeFloat=1.0)
        return self._messages["GetMetricSpecResponse"](metricSpecs=[spec])

    def _metrics(self, _request: Any, _context: Any) -> Any:
        wanted = self._wanted()
        value = self._messages["MetricValue"](metricName=METRIC, metricValue=wanted, metricValueFloat=float(wanted))
        return self._messages["GetMetricsResponse"](metricValues=[value])


def _lacking(error: ImportError) -> MachineError:
    return MachineError(
        "serving KEDA's external scaler", f"{error.name} is not installed", installing.optional("scaler")
    )

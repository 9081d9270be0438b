"""grpcurl in small, for hosts that have Python and not grpcurl: the same words, by server reflection alone.

    call.py -d '{"all": true}' /run/davit/davitd.sock davit.container.v1.Containers/List
    call.py --lines SOCKET      reads lines of grpcurl from standard input and asks that socket instead
"""

import argparse
import json
import shlex
import sys

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


class Engine:
    """A socket and what is served there."""

    def __init__(self, socket: str):
        self.channel = grpc.insecure_channel(f"unix:{socket}", options=[("grpc.default_authority", "davit")])
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = descriptor_pool.DescriptorPool(self.database)

    def call(self, path: str, text: str, seconds: float | None) -> None:
        """Calls a method with the messages of a text, and prints the answers."""
        service, _, name = path.partition("/")
        method = self.pool.FindServiceByName(service).methods_by_name[name]
        wanted = message_factory.GetMessageClass(method.input_type)
        answer = message_factory.GetMessageClass(method.output_type)
        requests = [json_format.ParseDict(value, wanted()) for value in values(text)]
        kind = ("stream" if method.client_streaming else "unary") + (
            "_stream" if method.server_streaming else "_unary"
        )
        rpc = getattr(self.channel, kind)(
            f"/{path}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        request = iter(requests) if method.client_streaming else (requests or [wanted()])[0]
        answers = rpc(request, timeout=seconds)
        for message in answers if method.server_streaming else [answers]:
            print(json_format.MessageToJson(message), flush=True)

    def ask(self, words: list[str]) -> None:
        """Does what a line of grpcurl says."""
        known = argparse.ArgumentParser(prog="grpcurl", allow_abbrev=False)
        known.add_argument("-plaintext", action="store_true")
        known.add_argument("-unix", action="store_true")
        known.add_argument("-max-time", dest="seconds", type=float)
        known.add_argument("-d", default="")
        known.add_argument("socket")
        known.add_argument("what")
        known.add_argument("symbol", nargs="?")
        line = known.parse_args(words)
        if line.what == "list":
            print("\n".join(sorted(self.database.get_services())))
        elif line.what == "describe":
            found = self.pool.FindFileContainingSymbol(line.symbol)
            print(f"{line.symbol} is in {found.name}")
        else:
            self.call(line.what, line.d, line.seconds)


def values(text: str) -> list:
    """The JSON values of a text, one behind the other."""
    decoder, found = json.JSONDecoder(), []
    text = text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:].strip()
    return found


def main() -> None:
    words = sys.argv[1:]
    if words[:1] != ["--lines"]:
        sockets = [word for word in words if word.startswith("/") and word.endswith(".sock")]
        Engine(sockets[0]).ask(words)
        return
    engine = Engine(words[1])
    for line in sys.stdin:
        print(f"# {line.strip()}", flush=True)
        words = shlex.split(line)
        try:
            engine.ask(words[1:])
        except grpc.RpcError as error:
            # A stream without an end is read as long as its line says.
            if error.code() != grpc.StatusCode.DEADLINE_EXCEEDED or "-max-time" not in words:
                raise SystemExit(f"{line.strip()}: {error.code()}: {error.details()}") from error


if __name__ == "__main__":
    main()

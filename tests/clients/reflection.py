"""A client that knows nothing of davit but its socket: it learns the API by server reflection, then lists,
creates, attaches to, starts and removes a container."""

import queue
import sys

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


class Service:
    """The methods of one service, found by reflection."""

    def __init__(self, channel, pool, name):
        self.channel = channel
        self.descriptor = pool.FindServiceByName(name)

    def __getattr__(self, name) -> "callable":
        method: MethodDescriptor = self.descriptor.methods_by_name[name]
        answer = message_factory.GetMessageClass(method.output_type)
        kinds = {
            (False, False): self.channel.unary_unary,
            (False, True): self.channel.unary_stream,
            (True, True): self.channel.stream_stream,
        }
        make = kinds[(method.client_streaming, method.server_streaming)]
        return make(
            f"/{self.descriptor.full_name}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )

    def request(self, rpc, /, **fields):
        """A request message of a method."""
        method = self.descriptor.methods_by_name[rpc]
        return message_factory.GetMessageClass(method.input_type)(**fields)


def main() -> None:
    channel = grpc.insecure_channel(f"unix:{sys.argv[1]}", options=[("grpc.default_authority", "davit")])
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = descriptor_pool.DescriptorPool(database)
    assert "davit.container.v1.Containers" in database.get_services()
    containers = Service(channel, pool, "davit.container.v1.Containers")

    def listed():
        answers = containers.List(containers.request("List", all=True))
        print("listed", sum(len(answer.containers) for answer in answers))

    listed()
    made = containers.Create(
        containers.request(
            "Create",
            name="by-reflection",
            spec={"image": "busybox", "command": ["sh", "-c", "read word; echo $word from reflection; exit 5"], "open_stdin": True},
        )
    )
    print("created", made.container_id)

    frames = queue.Queue()
    frames.put(
        containers.request(
            "Attach",
            open={
                "container": made.container_id,
                "streams": {"stdin": True, "stdout": True, "stderr": True},
                "start": True,
            },
        )
    )
    for answer in containers.Attach(iter(frames.get, None)):
        frame = answer.WhichOneof("frame")
        if frame == "attached":
            frames.put(containers.request("Attach", input={"data": b"hello\n"}))
        elif frame == "output":
            print("attached:", answer.output.data.decode(), end="")
        elif frame == "exit":
            print("exit code", answer.exit.exit_code)
    frames.put(None)

    started = containers.Start(containers.request("Start", container="by-reflection"))
    assert started.container_id == made.container_id
    containers.Remove(containers.request("Remove", container="by-reflection", force=True))
    print("removed")
    listed()


main()

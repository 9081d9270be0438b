//! Stable reasons of errors (`google.rpc.ErrorInfo.reason`) that clients act on. Every crate may have
//! more of its own; what another crate compares against stands here.

/// No container by that id or name.
pub const CONTAINER_NOT_FOUND: &str = "CONTAINER_NOT_FOUND";
/// A prefix that several ids begin with.
pub const CONTAINER_AMBIGUOUS: &str = "CONTAINER_AMBIGUOUS";
/// The container's name is taken.
pub const NAME_TAKEN: &str = "NAME_TAKEN";
/// The container runs and the call wants it stopped.
pub const CONTAINER_RUNNING: &str = "CONTAINER_RUNNING";
/// The container does not run and the call wants it running.
pub const CONTAINER_NOT_RUNNING: &str = "CONTAINER_NOT_RUNNING";
/// No image by that reference or id on this host.
pub const IMAGE_NOT_FOUND: &str = "IMAGE_NOT_FOUND";
/// A container uses the image.
pub const IMAGE_IN_USE: &str = "IMAGE_IN_USE";
/// No volume by that name.
pub const VOLUME_NOT_FOUND: &str = "VOLUME_NOT_FOUND";
/// A container uses the volume.
pub const VOLUME_IN_USE: &str = "VOLUME_IN_USE";
/// A volume of that name exists, and is another one.
pub const VOLUME_EXISTS: &str = "VOLUME_EXISTS";
/// The driver of the volume does not answer.
pub const VOLUME_DRIVER_AWAY: &str = "VOLUME_DRIVER_AWAY";
/// No network by that name or id.
pub const NETWORK_NOT_FOUND: &str = "NETWORK_NOT_FOUND";
/// The container is not on that network.
pub const NETWORK_NOT_CONNECTED: &str = "NETWORK_NOT_CONNECTED";
/// Containers are on the network.
pub const NETWORK_IN_USE: &str = "NETWORK_IN_USE";
/// There is no such path in the container.
pub const PATH_NOT_FOUND: &str = "PATH_NOT_FOUND";
/// The host port is taken.
pub const PORT_TAKEN: &str = "PORT_TAKEN";
/// The command does not exist in the container: exit code 127.
pub const COMMAND_NOT_FOUND: &str = "COMMAND_NOT_FOUND";
/// The command exists and cannot be executed: exit code 126.
pub const COMMAND_NOT_EXECUTABLE: &str = "COMMAND_NOT_EXECUTABLE";
/// No exec has this id, or it ended long ago.
pub const EXEC_NOT_FOUND: &str = "EXEC_NOT_FOUND";
/// The shim that serves the container cannot be reached.
pub const SHIM_UNREACHABLE: &str = "SHIM_UNREACHABLE";
/// The shim has nothing more to serve: its container has ended, or was never made.
pub const SHIM_ENDING: &str = "SHIM_ENDING";
/// The connection between engine and shim broke and the container goes on: attach again at the next offset.
pub const ATTACH_BROKEN: &str = "ATTACH_BROKEN";
/// A call this version does not serve yet.
pub const NOT_IMPLEMENTED: &str = "NOT_IMPLEMENTED";
/// The same request key came with another request.
pub const REQUEST_KEY_REUSED: &str = "REQUEST_KEY_REUSED";

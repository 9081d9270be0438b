//! Tests against real and hostile servers.

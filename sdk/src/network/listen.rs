//! Opening the listening sockets, with errors that name the address.

use std::{
    error::Error,
    io,
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
};

use libp2p::{Multiaddr, TransportError, multiaddr::Protocol};

use super::NetworkError;

/// Fails if another socket has the address already.
///
/// The transport sets `SO_REUSEPORT` on what it listens on, so that dialing can share the port; two nodes of one user
/// would then share a port and each get half of its connections. A plain bind beforehand tells.
pub(super) fn check_free(address: &Multiaddr) -> Result<(), NetworkError> {
    let result = match socket_address(address) {
        Some((socket, Transport::Tcp)) if socket.port() != 0 => TcpListener::bind(socket).map(drop),
        Some((socket, Transport::Udp)) if socket.port() != 0 => UdpSocket::bind(socket).map(drop),
        _ => Ok(()),
    };
    result.map_err(|error| io_failure(address, error))
}

/// Whether the UDP port of an address is taken. QUIC keeps its socket a little beyond the last connection's end.
pub(super) fn is_draining(address: &Multiaddr) -> bool {
    matches!(socket_address(address), Some((socket, Transport::Udp)) if UdpSocket::bind(socket).is_err())
}

/// What the transport's refusal means to a caller.
pub(super) fn failure(address: &Multiaddr, error: TransportError<io::Error>) -> NetworkError {
    match error {
        TransportError::MultiaddrNotSupported(_) => {
            let source = io::Error::new(io::ErrorKind::Unsupported, "no transport for this address");
            NetworkError::Listen { address: address.clone(), source }
        }
        TransportError::Other(error) => io_failure(address, error),
    }
}

fn io_failure(address: &Multiaddr, source: io::Error) -> NetworkError {
    match is_in_use(&source) {
        true => NetworkError::AddressInUse { address: address.clone() },
        false => NetworkError::Listen { address: address.clone(), source },
    }
}

fn is_in_use(error: &io::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::AddrInUse) {
            return true;
        }
        cause = error.source();
    }
    false
}

enum Transport {
    Tcp,
    Udp,
}

fn socket_address(address: &Multiaddr) -> Option<(SocketAddr, Transport)> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some((SocketAddr::new(ip, port), Transport::Tcp)),
        Protocol::Udp(port) => Some((SocketAddr::new(ip, port), Transport::Udp)),
        _ => None,
    }
}

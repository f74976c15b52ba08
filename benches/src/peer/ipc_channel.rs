//! ipc-channel: the helper connects to the driver's one-shot server and hands over its channel ends, as the
//! crate's documentation shows.

use crate::harness::Result;
use crate::link::Link;
use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender};
use ipc_channel::ipc::{IpcOneShotServer, IpcReceiver, IpcSender};
use serde::{Deserialize, Serialize};

/// Makes a server for one greeting of that type, and its name.
pub(crate) fn server<T>() -> Result<(IpcOneShotServer<T>, String)>
where
    T: for<'de> Deserialize<'de> + Serialize,
{
    Ok(IpcOneShotServer::new()?)
}

/// Waits for a helper's greeting.
pub(crate) fn accept<T>(server: IpcOneShotServer<T>) -> Result<T>
where
    T: for<'de> Deserialize<'de> + Serialize,
{
    Ok(server.accept()?.1)
}

/// Greets the driver's server of that name.
pub(crate) fn greet<T: Serialize>(name: &str, greeting: T) -> Result<()> {
    Ok(IpcSender::connect(name.to_owned())?.send(greeting)?)
}

/// `IpcSender<u64>` each way.
pub(crate) struct Typed {
    sender: IpcSender<u64>,
    receiver: IpcReceiver<u64>,
}

impl Link for Typed {
    type Offer = IpcOneShotServer<(IpcSender<u64>, IpcReceiver<u64>)>;

    const NAME: &'static str = "ipc-channel";

    fn offer() -> Result<(Self::Offer, String)> {
        server()
    }

    fn accept(offer: Self::Offer) -> Result<Self> {
        let (sender, receiver) = accept(offer)?;
        Ok(Self { sender, receiver })
    }

    fn join(invitation: &str) -> Result<Self> {
        let (to_helper, receiver) = ipc::channel::<u64>()?;
        let (sender, to_driver) = ipc::channel::<u64>()?;
        greet(invitation, (to_helper, to_driver))?;
        Ok(Self { sender, receiver })
    }

    fn send(&mut self, value: u64) -> Result<()> {
        Ok(self.sender.send(value)?)
    }

    fn recv(&mut self) -> Result<u64> {
        Ok(self.receiver.recv()?)
    }
}

/// `IpcBytesSender` each way: no serialisation.
pub(crate) struct Bytes {
    sender: IpcBytesSender,
    receiver: IpcBytesReceiver,
}

impl Link for Bytes {
    type Offer = IpcOneShotServer<(IpcBytesSender, IpcBytesReceiver)>;

    const NAME: &'static str = "ipc-channel-bytes";

    fn offer() -> Result<(Self::Offer, String)> {
        server()
    }

    fn accept(offer: Self::Offer) -> Result<Self> {
        let (sender, receiver) = accept(offer)?;
        Ok(Self { sender, receiver })
    }

    fn join(invitation: &str) -> Result<Self> {
        let (to_helper, receiver) = ipc::bytes_channel()?;
        let (sender, to_driver) = ipc::bytes_channel()?;
        greet(invitation, (to_helper, to_driver))?;
        Ok(Self { sender, receiver })
    }

    fn send(&mut self, value: u64) -> Result<()> {
        Ok(self.sender.send(&value.to_ne_bytes())?)
    }

    fn recv(&mut self) -> Result<u64> {
        Ok(u64::from_ne_bytes(
            self.receiver.recv()?.as_slice().try_into()?,
        ))
    }
}

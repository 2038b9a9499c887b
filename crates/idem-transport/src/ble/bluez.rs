//! The Bluetooth of Linux: BlueZ, which is asked over D-Bus, and its L2CAP sockets.
//!
//! Only one central at a time can be served over GATT: BlueZ sends what is notified to all of them. Those that
//! use L2CAP channels are not limited by that.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bluer::{
    Adapter, AdapterEvent, Address, DiscoveryFilter, DiscoveryTransport, Session, Uuid,
    adv::{Advertisement, AdvertisementHandle, Type},
    gatt::{
        CharacteristicReader, CharacteristicWriter,
        local::{
            Application, ApplicationHandle, Characteristic, CharacteristicControl,
            CharacteristicControlEvent, CharacteristicNotify, CharacteristicNotifyMethod,
            CharacteristicWrite, CharacteristicWriteMethod, ReqError, Service,
            characteristic_control,
        },
        remote,
    },
    l2cap::{PSM_LE_DYN_START, PSM_LE_MAX, SeqPacket, SeqPacketListener, Socket, SocketAddr},
};
use futures_util::StreamExt;
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};

use crate::ble::{
    BLE_CHARACTERISTIC_READ, BLE_CHARACTERISTIC_WRITE, BleAddress, BleAdvert, BleBackend,
    BleBearer, BleError, BleEvent, BleFuture, BleRadio, DATAGRAM_BYTES_MAX,
};

/// Events that wait for a slow peer.
const EVENTS_MAX: usize = 64;

/// Connections that wait to be taken.
const BACKLOG: u32 = 8;

/// What ATT needs of its MTU for a write or a notification.
const ATT_HEADER_BYTES: usize = 3;

/// The largest value of a characteristic.
const VALUE_BYTES_MAX: usize = 512;

/// The first adapter of the system. It was started against a mock of BlueZ, and never used with a real
/// radio.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct BluezBackend;

impl BluezBackend {
    /// The first adapter of the system, which is looked for when it is started.
    pub fn new() -> Self {
        Self
    }
}

impl BleBackend for BluezBackend {
    fn start(&self, advert: BleAdvert) -> BleFuture<'_, Box<dyn BleRadio>> {
        Box::pin(async move {
            let radio: Box<dyn BleRadio> = Box::new(BluezRadio::start(advert).await?);
            Ok(radio)
        })
    }
}

type Events = mpsc::Sender<Result<BleEvent, BleError>>;

struct BluezRadio {
    adapter: Adapter,
    service: Uuid,
    happened: Mutex<mpsc::Receiver<Result<BleEvent, BleError>>>,
    _advertised: AdvertisementHandle,
    _served: Option<ApplicationHandle>,
    /// End with the radio.
    _tasks: JoinSet<()>,
}

impl BluezRadio {
    async fn start(mut advert: BleAdvert) -> Result<Self, BleError> {
        let session = Session::new().await.map_err(no_service)?;
        session.adapter_names().await.map_err(no_service)?;
        let adapter = session.default_adapter().await;
        let adapter = adapter.map_err(|e| BleError::NoAdapter { source: e.into() })?;
        let powered = adapter.set_powered(true).await;
        powered.map_err(|e| BleError::AdapterOff { source: e.into() })?;
        let (events, happened) = mpsc::channel(EVENTS_MAX);
        let mut tasks = JoinSet::new();
        match listen(&adapter).await {
            Ok((listener, psm)) => {
                advert.psm = Some(psm);
                tasks.spawn(take_channels(listener, events.clone()));
            }
            Err(error) => tracing::info!(%error, "no L2CAP channels, GATT only"),
        }
        let service = Uuid::from_bytes(advert.service);
        let served = match serve(&adapter, service).await {
            Ok((served, write, read)) => {
                tasks.spawn(take_centrals(write, read, events.clone()));
                Some(served)
            }
            // One of both is enough to be linked with.
            Err(error) if advert.psm.is_some() => {
                tracing::info!(error = error.in_full(), "no GATT, L2CAP channels only");
                None
            }
            Err(error) => return Err(error),
        };
        let advertisement = Advertisement {
            advertisement_type: Type::Peripheral,
            service_data: BTreeMap::from([(service, advert.to_data().to_vec())]),
            discoverable: Some(true),
            ..Default::default()
        };
        let advertised = adapter.advertise(advertisement).await;
        let advertised = advertised.map_err(failed("this peer cannot be advertised"))?;
        tasks.spawn(look(adapter.clone(), service, events));
        Ok(Self {
            adapter,
            service,
            happened: Mutex::new(happened),
            _advertised: advertised,
            _served: served,
            _tasks: tasks,
        })
    }

    async fn channel(&self, address: Address, psm: u8) -> Result<BleBearer, BleError> {
        let device = self.adapter.device(address);
        let device = device.map_err(failed("the device is not known"))?;
        let kind = device.address_type().await;
        let kind = kind.map_err(failed("the device is not known any more"))?;
        let connected = SeqPacket::connect(SocketAddr::new(address, kind, psm.into())).await;
        let socket = connected.map_err(|e| io_failed("no L2CAP channel comes about", e))?;
        over_channel(socket, address)
    }

    async fn gatt(&self, address: Address) -> Result<BleBearer, BleError> {
        let device = self.adapter.device(address);
        let device = device.map_err(failed("the device is not known"))?;
        device
            .connect()
            .await
            .map_err(failed("the device cannot be connected with"))?;
        let services = device.services().await;
        let services = services.map_err(failed("the services of the device cannot be read"))?;
        let (mut write, mut read) = (None, None);
        for service in services {
            if service.uuid().await.ok() != Some(self.service) {
                continue;
            }
            let found = service.characteristics().await;
            for it in found.map_err(failed("the service of the device cannot be read"))? {
                match it.uuid().await.map(Uuid::into_bytes) {
                    Ok(BLE_CHARACTERISTIC_WRITE) => write = Some(it),
                    Ok(BLE_CHARACTERISTIC_READ) => read = Some(it),
                    _ => {}
                }
            }
        }
        let (Some(write), Some(read)): (Option<remote::Characteristic>, Option<_>) = (write, read)
        else {
            return Err(BleError::failed(
                "the device has no service of this database",
            ));
        };
        // What is notified must not come before somebody listens.
        let reader = read.notify_io().await;
        let reader = reader.map_err(failed("the device does not notify"))?;
        let writer = write.write_io().await;
        let writer = writer.map_err(failed("the device cannot be written to"))?;
        Ok(over_gatt(reader, writer, address, None))
    }
}

impl BleRadio for BluezRadio {
    fn next(&self) -> BleFuture<'_, BleEvent> {
        Box::pin(async {
            let event = self.happened.lock().await.recv().await;
            event.unwrap_or_else(|| Err(BleError::failed("the Bluetooth service is gone")))
        })
    }

    fn connect(&self, address: BleAddress, psm: Option<u8>) -> BleFuture<'_, BleBearer> {
        Box::pin(async move {
            let address = address.0.parse();
            let address = address.map_err(|_| BleError::failed("this is no Bluetooth address"))?;
            match psm {
                Some(psm) => self.channel(address, psm).await,
                None => self.gatt(address).await,
            }
        })
    }
}

fn no_service(error: bluer::Error) -> BleError {
    BleError::NoService {
        source: error.into(),
    }
}

fn failed(what: &'static str) -> impl Fn(bluer::Error) -> BleError {
    move |error| BleError::Failed {
        what: what.to_owned(),
        source: Some(error.into()),
    }
}

fn io_failed(what: &str, error: io::Error) -> BleError {
    BleError::Failed {
        what: what.to_owned(),
        source: Some(error.into()),
    }
}

/// Listens for L2CAP channels at a PSM that the system chooses.
async fn listen(adapter: &Adapter) -> io::Result<(SeqPacketListener, u8)> {
    let (address, kind) = (adapter.address().await, adapter.address_type().await);
    let (address, kind) = (
        address.map_err(io::Error::other)?,
        kind.map_err(io::Error::other)?,
    );
    let socket = Socket::new_seq_packet()?;
    socket.bind(SocketAddr::new(address, kind, 0))?;
    socket.set_recv_mtu(u16::try_from(DATAGRAM_BYTES_MAX).expect("2,048 fits"))?;
    let listener = socket.listen(BACKLOG)?;
    let psm = listener.as_ref().local_addr()?.psm;
    let is_usable = (PSM_LE_DYN_START..=PSM_LE_MAX).contains(&psm);
    let psm = u8::try_from(psm).ok().filter(|_| is_usable);
    let psm = psm.ok_or_else(|| io::Error::other("the system gave no PSM of Bluetooth LE"))?;
    Ok((listener, psm))
}

async fn take_channels(listener: SeqPacketListener, events: Events) {
    while let Ok((socket, from)) = listener.accept().await {
        let bearer = over_channel(socket, from.addr);
        if let Ok(bearer) = bearer
            && events.send(Ok(BleEvent::Connected(bearer))).await.is_err()
        {
            return;
        }
    }
}

/// Offers the service to centrals.
async fn serve(
    adapter: &Adapter,
    service: Uuid,
) -> Result<
    (
        ApplicationHandle,
        CharacteristicControl,
        CharacteristicControl,
    ),
    BleError,
> {
    let (write, write_handle) = characteristic_control();
    let (read, read_handle) = characteristic_control();
    let written = Characteristic {
        uuid: Uuid::from_bytes(BLE_CHARACTERISTIC_WRITE),
        write: Some(CharacteristicWrite {
            write_without_response: true,
            method: CharacteristicWriteMethod::Io,
            ..Default::default()
        }),
        control_handle: write_handle,
        ..Default::default()
    };
    let notified = Characteristic {
        uuid: Uuid::from_bytes(BLE_CHARACTERISTIC_READ),
        notify: Some(CharacteristicNotify {
            notify: true,
            method: CharacteristicNotifyMethod::Io,
            ..Default::default()
        }),
        control_handle: read_handle,
        ..Default::default()
    };
    let application = Application {
        services: vec![Service {
            uuid: service,
            primary: true,
            characteristics: vec![written, notified],
            ..Default::default()
        }],
        ..Default::default()
    };
    let served = adapter.serve_gatt_application(application).await;
    let served = served.map_err(failed("the service of this peer cannot be offered"))?;
    Ok((served, write, read))
}

/// Pairs what a central writes with what it is notified of, for one central at a time.
async fn take_centrals(
    mut write: CharacteristicControl,
    mut read: CharacteristicControl,
    events: Events,
) {
    let is_taken = Arc::new(AtomicBool::new(false));
    let (mut reader, mut writer) = (None::<CharacteristicReader>, None::<CharacteristicWriter>);
    loop {
        let event = tokio::select! {
            event = write.next() => event,
            event = read.next() => event,
        };
        match event {
            Some(CharacteristicControlEvent::Write(request)) => {
                if is_taken.load(Ordering::Acquire) {
                    request.reject(ReqError::InProgress);
                } else {
                    reader = request.accept().ok();
                }
            }
            Some(CharacteristicControlEvent::Notify(notifier)) => {
                if !is_taken.load(Ordering::Acquire) {
                    writer = Some(notifier);
                }
            }
            None => return,
        }
        let is_pair = match (&reader, &writer) {
            (Some(reader), Some(writer)) => reader.device_address() == writer.device_address(),
            _ => false,
        };
        if !is_pair {
            continue;
        }
        let (Some(reader), Some(writer)) = (reader.take(), writer.take()) else {
            continue;
        };
        is_taken.store(true, Ordering::Release);
        let address = writer.device_address();
        let bearer = over_gatt(reader, writer, address, Some(Arc::clone(&is_taken)));
        if events.send(Ok(BleEvent::Connected(bearer))).await.is_err() {
            return;
        }
    }
}

/// Looks for peers until the service is gone.
async fn look(adapter: Adapter, service: Uuid, events: Events) {
    let error = match look_on(&adapter, service, &events).await {
        Ok(()) => BleError::failed("the Bluetooth adapter is gone"),
        Err(error) => failed("peers cannot be looked for")(error),
    };
    // Nobody to tell: the radio is gone.
    let _ = events.send(Err(error)).await;
}

async fn look_on(adapter: &Adapter, service: Uuid, events: &Events) -> bluer::Result<()> {
    // Not by UUID: that would find those who list it, and there is no room for a list.
    let filter = DiscoveryFilter {
        transport: DiscoveryTransport::Le,
        duplicate_data: true,
        ..Default::default()
    };
    adapter.set_discovery_filter(filter).await?;
    let mut seen = Box::pin(adapter.discover_devices_with_changes().await?);
    while let Some(event) = seen.next().await {
        let AdapterEvent::DeviceAdded(address) = event else {
            continue;
        };
        // A device that is gone again is none of interest.
        let Ok(device) = adapter.device(address) else {
            continue;
        };
        let data = device.service_data().await.ok().flatten();
        let Some(data) = data.and_then(|mut data| data.remove(&service)) else {
            continue;
        };
        let signal = device.rssi().await.ok().flatten();
        let event = BleEvent::Seen {
            address: BleAddress(address.to_string()),
            service: service.into_bytes(),
            data,
            signal_dbm: signal.and_then(|dbm| i8::try_from(dbm).ok()),
        };
        if events.send(Ok(event)).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// A bearer in an L2CAP channel, in which the socket keeps datagrams apart.
fn over_channel(socket: SeqPacket, address: Address) -> Result<BleBearer, BleError> {
    let sizes = socket
        .send_mtu()
        .and_then(|send| Ok((send, socket.recv_mtu()?)));
    let (send, receive) = sizes.map_err(|e| io_failed("the channel has no size", e))?;
    let size = send.min(receive);
    let address = BleAddress(address.to_string());
    let (bearer, mut outgoing, arrived) = BleBearer::with_ends(address, size);
    let socket = Arc::new(socket);
    let sending = Arc::clone(&socket);
    tokio::spawn(async move {
        while let Some(datagram) = outgoing.recv().await {
            if sending.send(&datagram).await.is_err() {
                break;
            }
        }
        // Ends the other task as well.
        let _ = sending.shutdown(std::net::Shutdown::Both);
    });
    tokio::spawn(async move {
        let mut datagram = vec![0; receive.max(size)];
        while let Ok(len @ 1..) = socket.recv(&mut datagram).await {
            if arrived.send(datagram[..len].to_vec()).await.is_err() {
                break;
            }
        }
    });
    Ok(bearer)
}

/// A bearer of two characteristics. `is_taken` becomes false when it is over.
fn over_gatt(
    reader: CharacteristicReader,
    writer: CharacteristicWriter,
    address: Address,
    is_taken: Option<Arc<AtomicBool>>,
) -> BleBearer {
    let size = reader
        .mtu()
        .min(writer.mtu())
        .saturating_sub(ATT_HEADER_BYTES);
    let address = BleAddress(address.to_string());
    let (bearer, mut outgoing, arrived) = BleBearer::with_ends(address, size.min(VALUE_BYTES_MAX));
    tokio::spawn(async move {
        loop {
            tokio::select! {
                datagram = outgoing.recv() => {
                    let Some(datagram) = datagram else { break };
                    if writer.send(&datagram).await.is_err() {
                        break;
                    }
                }
                datagram = reader.recv() => {
                    let Ok(datagram) = datagram else { break };
                    // Bounded by the credits that the other side has.
                    if datagram.is_empty() || arrived.send(datagram).await.is_err() {
                        break;
                    }
                }
            }
        }
        if let Some(is_taken) = is_taken {
            is_taken.store(false, Ordering::Release);
        }
    });
    bearer
}

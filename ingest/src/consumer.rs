//! A client of a broker that somebody else runs: the same pipeline behind another door.
//!
//! Two halves of one task. The *driver* polls the MQTT client and never waits for anything else, so that keep alive is
//! kept; the *worker* takes what arrived meanwhile as one batch, has it stored, and only then acknowledges it. The session is
//! persistent and the acknowledgements are ours, so what was not stored the broker sends again.
//!
//! **Invariant**: an acknowledgement is sent only on the connection that its message came on. Another connection may use
//! the same packet identifier for another message.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Packet, Publish, QoS, SubscribeFilter};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    admission::Tenants,
    options::{ConsumerOptions, std_time},
    pipeline::{Intake, Message, NotTaken, Pipeline},
};

/// A consumer could not be made from its settings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The password's file cannot be read.
    #[error("failed to read the broker's password from {path}")]
    Password {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A setting cannot be used.
    #[error("consumer setting {setting}: {reason}")]
    Setting {
        /// Which one.
        setting: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// Largest batch that the worker takes at a time; 1,024 messages of 200 bytes decode in under a millisecond.
const BATCH_MAX: usize = 1_024;
/// First pause before connecting anew; it doubles up to the setting.
const RETRY_DELAY_MIN: Duration = Duration::from_millis(100);
/// Time that the last acknowledgements have at shutdown.
const DRAIN: Duration = Duration::from_secs(5);

/// A consumer of one broker: made, not yet running.
pub struct Consumer {
    options: ConsumerOptions,
    mqtt: MqttOptions,
    pipeline: Pipeline,
}

/// A message and the connection it came on.
struct Delivery {
    connection: u64,
    publish: Publish,
}

/// What the two halves share.
#[derive(Default)]
struct Link {
    /// The number of the present connection.
    connection: Mutex<u64>,
    /// The worker could not store: the driver is to connect anew, so that the broker sends again.
    reconnect: Notify,
}

impl Link {
    fn connection(&self) -> u64 {
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on acknowledgements of earlier connections are dropped.
    fn next_connection(&self) {
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }
}

impl Consumer {
    /// A consumer with these settings.
    ///
    /// # Errors
    /// [`Error`] naming the setting or the file.
    pub fn new(options: ConsumerOptions, pipeline: Pipeline) -> Result<Self, Error> {
        let setting = |setting, reason: String| Err(Error::Setting { setting, reason });
        if options.client_id.is_empty() {
            return setting("client_id", "must not be empty: the broker keeps our session under it".to_owned());
        }
        if options.filters.is_empty() || options.inflight_messages_max == 0 {
            return setting("filters", "at least one filter and one message in flight are needed".to_owned());
        }
        for filter in &options.filters {
            if let Err(error) = filter.parse::<crate::decode::TopicFilter>() {
                return setting("filters", error.to_string());
            }
        }
        let mut mqtt = MqttOptions::new(&options.client_id, &options.host, options.port);
        mqtt.set_manual_acks(true).set_clean_session(false).set_keep_alive(std_time(options.keep_alive));
        mqtt.set_max_packet_size(options.packet_bytes_max.bytes(), options.packet_bytes_max.bytes());
        if let Some(username) = &options.username {
            mqtt.set_credentials(username, password(&options)?);
        }
        Ok(Self { options, mqtt, pipeline })
    }

    /// Runs until `shutdown`, then stores what has arrived, acknowledges it and disconnects. Connects anew for ever.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { options, mqtt, pipeline } = self;
        let (client, events) = AsyncClient::new(mqtt, options.inflight_messages_max + BATCH_MAX);
        let (deliveries, arrived) = mpsc::channel(options.inflight_messages_max);
        let (done, drained) = oneshot::channel();
        let link = Arc::new(Link::default());
        let tenants = options.tenant.clone().map_or(Tenants::All, Tenants::One);
        let worker = Worker { client: client.clone(), intake: pipeline.intake(tenants), link: Arc::clone(&link) };
        let driver = Driver { options, client, events, link, pipeline, retry_delay: RETRY_DELAY_MIN, connected: None };
        // Both run in this task: neither can outlive the other.
        tokio::join!(driver.run(deliveries, drained, shutdown), worker.run(arrived, done));
    }
}

fn password(options: &ConsumerOptions) -> Result<String, Error> {
    let Some(path) = &options.password_file else { return Ok(String::new()) };
    let text = std::fs::read_to_string(path).map_err(|source| Error::Password { path: path.clone(), source })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

struct Driver {
    options: ConsumerOptions,
    client: AsyncClient,
    events: EventLoop,
    link: Arc<Link>,
    pipeline: Pipeline,
    retry_delay: Duration,
    /// Since when there is a connection.
    connected: Option<Instant>,
}

impl Driver {
    async fn run(
        mut self,
        deliveries: mpsc::Sender<Delivery>,
        drained: oneshot::Receiver<()>,
        shutdown: CancellationToken,
    ) {
        let link = Arc::clone(&self.link);
        let mut subscribed = false;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = link.reconnect.notified() => self.start_over("the store did not take a batch", &shutdown).await,
                event = self.events.poll() => match event {
                    Ok(event) => self.take(event, &deliveries, &mut subscribed, &shutdown).await,
                    Err(error) => self.start_over(&explain(&error), &shutdown).await,
                },
            }
        }
        drop(deliveries);
        if timeout(DRAIN, self.finish(drained)).await.is_err() {
            warn!(host = self.options.host, "the broker did not take the last acknowledgements in time");
        }
    }

    async fn take(
        &mut self,
        event: Event,
        deliveries: &mpsc::Sender<Delivery>,
        subscribed: &mut bool,
        shutdown: &CancellationToken,
    ) {
        match event {
            Event::Incoming(Packet::ConnAck(connack)) => {
                info!(host = self.options.host, resumed = connack.session_present, "connected to the broker");
                self.connected = Some(Instant::now());
                // A session that the broker kept has its subscriptions; at our start the settings may be others.
                if !connack.session_present || !*subscribed {
                    *subscribed = self.subscribe();
                }
            }
            Event::Incoming(Packet::SubAck(suback)) => {
                let refused = |code: &rumqttc::SubscribeReasonCode| *code == rumqttc::SubscribeReasonCode::Failure;
                if suback.return_codes.iter().any(refused) {
                    warn!(host = self.options.host, filters = ?self.options.filters, "the broker refused a subscription");
                }
            }
            Event::Incoming(Packet::Publish(publish)) => self.deliver(publish, deliveries, shutdown).await,
            Event::Incoming(_) | Event::Outgoing(_) => {}
        }
    }

    fn subscribe(&self) -> bool {
        let filters = self.options.filters.iter().map(|filter| {
            let path = match &self.options.share_group {
                Some(group) => format!("$share/{group}/{filter}"),
                None => filter.clone(),
            };
            SubscribeFilter { path, qos: QoS::AtLeastOnce }
        });
        let asked = self.client.try_subscribe_many(filters);
        if let Err(error) = &asked {
            warn!(%error, "failed to ask for a subscription");
        }
        asked.is_ok()
    }

    /// Passes a message to the worker without ever waiting for it.
    async fn deliver(&mut self, publish: Publish, deliveries: &mpsc::Sender<Delivery>, shutdown: &CancellationToken) {
        let qos = publish.qos;
        let delivery = Delivery { connection: self.link.connection(), publish };
        if deliveries.try_send(delivery).is_ok() {
            return;
        }
        self.pipeline.refuse(1);
        if qos != QoS::AtMostOnce {
            // The broker keeps what it got no acknowledgement for, and sends it after we connect anew.
            self.start_over("too many messages wait to be stored", shutdown).await;
        }
    }

    /// Drops the connection and pauses; the next poll connects anew. Nothing that belonged to it is acknowledged any more.
    async fn start_over(&mut self, reason: &str, shutdown: &CancellationToken) {
        let pause_max = std_time(self.options.retry_delay_max);
        // A connection that lasted starts the pauses from the shortest again; one that was made and lost at once does not.
        if self.connected.take().is_some_and(|since| since.elapsed() >= pause_max) {
            self.retry_delay = RETRY_DELAY_MIN;
        }
        let pause = self.retry_delay.min(pause_max);
        warn!(
            host = self.options.host,
            reason,
            retry_ms = pause.as_millis(),
            "connection to the broker is started over"
        );
        self.link.next_connection();
        // After the number changed the worker adds no acknowledgement, and this removes those that still wait.
        self.events.clean();
        self.events.state.events.clear();
        self.retry_delay = pause * 2;
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = sleep(pause) => {}
        }
    }

    /// Polls on while the worker stores what had arrived, until the broker has its acknowledgements and our
    /// DISCONNECT.
    async fn finish(&mut self, mut drained: oneshot::Receiver<()>) {
        let mut asked = false;
        if self.events.network.is_none() {
            let _ = drained.await;
            return;
        }
        loop {
            tokio::select! {
                _ = &mut drained, if !asked => {
                    asked = true;
                    // Requests are sent in the order asked for, so the acknowledgements leave before it. The broker answers
                    // by closing; closing first would cost the acknowledgements that it has not read yet.
                    if self.client.try_disconnect().is_err() {
                        return;
                    }
                }
                event = self.events.poll() => match event {
                    Ok(_) => {}
                    Err(error) => {
                        debug!(%error, "the broker closed the connection");
                        if !asked {
                            let _ = drained.await;
                        }
                        return;
                    }
                },
            }
        }
    }
}

fn explain(error: &ConnectionError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

struct Worker {
    client: AsyncClient,
    intake: Intake,
    link: Arc<Link>,
}

impl Worker {
    /// Stores and acknowledges until the driver has gone and everything that arrived is settled.
    async fn run(mut self, mut arrived: mpsc::Receiver<Delivery>, done: oneshot::Sender<()>) {
        let mut waiting = Vec::new();
        while arrived.recv_many(&mut waiting, BATCH_MAX).await > 0 {
            let messages: Vec<Message> = waiting
                .iter()
                .map(|delivery| Message {
                    topic: delivery.publish.topic.clone(),
                    payload: delivery.publish.payload.clone(),
                })
                .collect();
            match self.store(&messages).await {
                Ok(()) => self.acknowledge(&waiting),
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    warn!(%error, cause, messages = messages.len(), "messages are not stored and not acknowledged");
                    self.link.reconnect.notify_one();
                }
            }
            waiting.clear();
        }
        let _ = done.send(());
    }

    async fn store(&mut self, messages: &[Message]) -> Result<(), NotTaken> {
        self.intake.take(messages).await?.append().await.map(|_| ())
    }

    /// The number of the connection is held still while acknowledgements are queued, so none can slip behind its end.
    fn acknowledge(&self, deliveries: &[Delivery]) {
        let connection = self.link.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let present = deliveries.iter().filter(|delivery| delivery.connection == *connection);
        for delivery in present.filter(|delivery| delivery.publish.qos != QoS::AtMostOnce) {
            // The queue has room for every message that can be in flight; the broker sends again what misses one.
            if let Err(error) = self.client.try_ack(&delivery.publish) {
                warn!(%error, "an acknowledgement could not be queued");
            }
        }
    }
}

//! A member made of this SDK.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringgate_client::groups::{Group, GroupInfo, GroupOptions, Groups, ProtectedEvent};
use ringgate_client::{Agent, Credential, Headers, Target};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::{Answer, Command, Failure, Told, hex, say, unhex};

/// Between the messages of one who talks: so that what is heard stays readable.
const BREATH: Duration = Duration::from_millis(5);

struct Member {
    groups: Groups,
    credential: Credential,
    talk: Mutex<Option<Talk>>,
}

/// A task that publishes, and what ends it.
struct Talk {
    quiet: Arc<AtomicBool>,
    task: JoinHandle<Result<u64, String>>,
}

pub(crate) async fn start(agent: Agent, credential: Credential) -> Result<Arc<dyn Told>, Failure> {
    let groups = Groups::open(&agent, &credential).await?;
    let joining = groups.clone();
    tokio::spawn(async move {
        while let Some(group) = joining.joined().await {
            say(&json!({"event": "joined", "group": hex(group.id())}));
        }
    });
    let mut requests = groups.requests();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let text = format!("re: {}", text(&request.opened.payload));
            if let Err(error) = request.respond(text).await {
                say(&json!({"event": "failed", "error": error.to_string()}));
            }
        }
    });
    Ok(Arc::new(Member {
        groups,
        credential,
        talk: Mutex::default(),
    }))
}

impl Told for Member {
    fn tell(self: Arc<Self>, command: Command) -> Answer {
        Box::pin(async move { self.obey(command).await })
    }
}

impl Member {
    async fn obey(&self, command: Command) -> Result<Value, Failure> {
        match command {
            Command::Create { padding } => {
                let options = GroupOptions {
                    padding_bytes: padding,
                    ..GroupOptions::default()
                };
                let group = self.groups.create(options).await?;
                return Ok(json!({"group": hex(group.id())}));
            }
            Command::Invite { group, names } => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                self.group(&group)?.invite(&names).await?;
            }
            Command::Remove { group, name } => self.group(&group)?.remove(&name).await?,
            Command::Leave { group } => self.group(&group)?.leave().await?,
            Command::Update { group, times } => {
                for _ in 0..times {
                    self.group(&group)?.rotate().await?;
                }
            }
            Command::Renew { group, times } => self.renew(&self.group(&group)?, times).await?,
            Command::Subscribe { pattern } => self.subscribe(&pattern).await?,
            Command::Publish { group, topic, text } => {
                let group = self.group(&group)?;
                let receivers = group.publish_acked(&topic, text, Headers::new()).await?;
                return Ok(json!({"receivers": receivers}));
            }
            Command::Cover { group, topic } => self.group(&group)?.publish_cover(&topic).await?,
            Command::Talk { group, topic } => self.talk(self.group(&group)?, topic).await,
            Command::Quiet => {
                let talk = self.talk.lock().await.take().ok_or("it is quiet")?;
                talk.quiet.store(true, Ordering::Relaxed);
                return Ok(json!({"said": talk.task.await??}));
            }
            Command::Request {
                group,
                agent,
                text: asked,
            } => {
                let reply = self.group(&group)?.request(Target::agent(agent), asked).await?;
                let opened = reply.opened;
                return Ok(json!({"text": text(&opened.payload), "sender": opened.sender.name}));
            }
            Command::Wait { group, mut members } => {
                members.sort_unstable();
                let group = self.group(&group)?;
                return Ok(told(&group.wait_for(|info| names(info) == members).await?));
            }
            Command::Out { group } => {
                self.group(&group)?.wait_for(|info| !info.is_member).await?;
            }
            Command::Info { group } => return Ok(told(&self.group(&group)?.info()?)),
            Command::Reinit { .. } => return Err("this SDK has no way to say that".into()),
        }
        Ok(json!({}))
    }

    fn group(&self, id: &str) -> Result<Group, Failure> {
        let group = self.groups.group(&unhex(id)?);
        group.ok_or_else(|| "it is not in this group".into())
    }

    async fn renew(&self, group: &Group, times: u32) -> Result<(), Failure> {
        for _ in 0..times {
            let before = group.info()?.epoch;
            self.credential.renew().await?;
            group.wait_for(|info| info.epoch > before).await?;
        }
        Ok(())
    }

    async fn subscribe(&self, pattern: &str) -> Result<(), Failure> {
        let mut subscription = self.groups.subscribe(pattern).await?;
        tokio::spawn(async move {
            while let Some(event) = subscription.next().await {
                say(&match event {
                    ProtectedEvent::Message { opened, topic, .. } => json!({
                        "event": "message",
                        "topic": topic,
                        "sender": opened.sender.name,
                        "text": text(&opened.payload),
                    }),
                    ProtectedEvent::Unreadable { source, topic, error } => json!({
                        "event": "unreadable",
                        "topic": topic,
                        "source": source,
                        "error": error.to_string(),
                    }),
                    ProtectedEvent::Gap(gap) => json!({"event": "gap", "lost": format!("{gap:?}")}),
                    _ => json!({"event": "interrupted"}),
                });
            }
        });
        Ok(())
    }

    async fn talk(&self, group: Group, topic: String) {
        let quiet = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&quiet);
        let task = tokio::spawn(async move {
            let mut said = 0_u64;
            while !until.load(Ordering::Relaxed) {
                let published = group
                    .publish_acked(&topic, said.to_string(), Headers::new())
                    .await;
                published.map_err(|error| format!("message {said}: {error}"))?;
                said += 1;
                tokio::time::sleep(BREATH).await;
            }
            Ok(said)
        });
        *self.talk.lock().await = Some(Talk { quiet, task });
    }
}

fn names(info: &GroupInfo) -> Vec<String> {
    let mut names: Vec<String> = info.members.iter().map(|member| member.name.clone()).collect();
    names.sort_unstable();
    names
}

fn told(info: &GroupInfo) -> Value {
    json!({"epoch": info.epoch, "members": names(info), "is_member": info.is_member})
}

fn text(payload: &[u8]) -> String {
    String::from_utf8_lossy(payload).into_owned()
}

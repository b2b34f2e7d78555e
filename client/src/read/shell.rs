//! What drives a machine of this folder: events in, effects done, until it waits for the world.

/// The shell around a machine.
pub(super) trait Shell {
    /// What the machine is told.
    type Event: Send;
    /// What it wants done.
    type Effect: Send;

    /// Gives an event to the machine.
    fn decide(&mut self, event: Self::Event, out: &mut Vec<Self::Effect>);
    /// Does an effect; one that is answered at once is the last of its batch.
    fn perform(&mut self, effect: Self::Effect) -> impl Future<Output = Option<Self::Event>> + Send;
}

/// Feeds an event to a machine, and what its effects are answered with.
pub(super) async fn feed<S: Shell + Send>(shell: &mut S, event: S::Event) {
    let mut next = Some(event);
    while let Some(event) = next.take() {
        let mut effects = Vec::new();
        shell.decide(event, &mut effects);
        for effect in effects {
            next = shell.perform(effect).await;
        }
    }
}

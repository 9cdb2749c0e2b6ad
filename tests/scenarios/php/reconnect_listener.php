<?php
// Leak: a queue worker reconnects for each batch of jobs, to have a fresh session. The old one should go with its last
// reference, but a listener that it registered holds another.
require __DIR__ . '/scenario.php';

final class Worker
{
    private array $listeners = [];
    private PDO $pdo;

    public function reconnect(): void
    {
        $pdo = new PDO('pgsql:');
        $this->pdo = $pdo;
        $this->listeners[] = fn () => $pdo->query('select pg_backend_pid()'); // the bug
    }

    public function batch(int $jobs): void
    {
        $this->reconnect();
        for ($job = 0; $job < $jobs; $job++) {
            $this->pdo->query("select count(*) + $job from pg_class")->fetchColumn();
            usleep(100_000);
        }
    }

    public function forgotten(): int
    {
        return count($this->listeners) - 1;
    }
}

go();
$worker = new Worker();
while (true) {
    $worker->batch(8);
    leaked($worker->forgotten());
}

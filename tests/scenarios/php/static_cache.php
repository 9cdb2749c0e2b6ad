<?php
// Leak: a worker that serves many requests keeps repositories in a static array, each with a connection of its own.
require __DIR__ . '/scenario.php';

final class Orders
{
    public static array $made = [];
    private PDO $pdo;

    public function __construct()
    {
        $this->pdo = new PDO('pgsql:');
        self::$made[] = $this; // the bug: grows with each request
    }

    public function count(): int
    {
        return (int) $this->pdo->query('select count(*) from pg_class')->fetchColumn();
    }
}

go();
while (true) {
    (new Orders())->count();
    leaked(count(Orders::$made));
    usleep(800_000);
}

<?php
// Healthy: a worker asks for the same persistent connection again and again, in a rhythm slower than --idle.
require __DIR__ . '/scenario.php';

go();
while (true) {
    $pdo = new PDO('pgsql:', null, null, [PDO::ATTR_PERSISTENT => true]);
    $pdo->query('select 1')->fetch();
    unset($pdo);
    usleep(2_500_000);
}

<?php
// Healthy: a connection for each request, closed when its variable goes.
require __DIR__ . '/scenario.php';

function handle(): void
{
    $pdo = new PDO('pgsql:');
    $pdo->query('select 1')->fetch();
}

go();
while (true) {
    handle();
    usleep(200_000);
}

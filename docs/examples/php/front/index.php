<?php
// The front end knows its back end by a name in its source, as many applications do.
$context = stream_context_create(['http' => ['timeout' => 5, 'ignore_errors' => true]]);
$answer = json_decode((string) @file_get_contents('http://shop-api/products.php', false, $context), true);
$products = $answer['products'] ?? null;
http_response_code($products === null ? 503 : 200);
?>
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Shop</title></head>
<body>
<h1>Shop</h1>
<p>Front end <code id="frontend"><?= htmlspecialchars(gethostname()) ?></code>,
back end <code id="backend"><?= htmlspecialchars($answer['backend'] ?? '') ?></code>,
user <code id="user"><?= posix_geteuid() ?></code></p>
<?php if ($products === null): ?>
<p id="error">The products cannot be shown right now.</p>
<?php else: ?>
<ul>
<?php foreach ($products as $product): ?>
<li><?= htmlspecialchars($product['name']) ?>: <?= htmlspecialchars($product['price']) ?></li>
<?php endforeach ?>
</ul>
<?php endif ?>
<pre id="headers"><?= htmlspecialchars(json_encode(getallheaders())) ?></pre>
</body>
</html>

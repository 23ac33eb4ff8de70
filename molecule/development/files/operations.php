<?php
// What operations.py does, done by PHP in the process that serves requests.
header('Content-Type: application/json');
set_error_handler(function ($number, $message) { throw new ErrorException($message); });
$root = __DIR__ . '/';

function inside(string $path): array {
    if (is_link($path) || !is_dir($path)) {
        return [];
    }
    $found = [];
    foreach (array_diff(scandir($path), ['.', '..']) as $name) {
        $found = array_merge($found, ["$path/$name"], inside("$path/$name"));
    }
    sort($found);
    return $found;
}

function make(string $path, string $kind): void {
    if (!is_dir(dirname($path))) {
        mkdir(dirname($path));
    }
    if ($kind === 'file' || $kind === 'program') {
        file_put_contents($path, "made\n");
    } elseif ($kind === 'directory') {
        mkdir($path);
        file_put_contents("$path/inner", "made\n");
    } elseif ($kind === 'tree') {
        mkdir("$path/one/two", 0777, true);
        file_put_contents("$path/one/two/inner", "made\n");
        file_put_contents("$path/one/inner", "made\n");
    } elseif ($kind === 'link') {
        file_put_contents("$path.target", "made\n");
        symlink(basename("$path.target"), $path);
    }
    if ($kind === 'program') {
        chmod($path, fileperms($path) & 07777 | 0100);
    }
}

function act(string $path, string $action): void {
    $files = is_dir($path) ? array_filter(inside($path), 'is_file') : [$path];
    if ($action === 'edit') {
        foreach ($files as $file) {
            file_put_contents($file, "edited\n", FILE_APPEND);
        }
        if (is_dir($path)) {
            file_put_contents("$path/added", "made\n");
        }
    } elseif ($action === 'rename') {
        foreach (is_dir($path) ? $files : [] as $file) {
            rename($file, "$file.renamed");
        }
        rename($path, "$path.renamed");
    } elseif ($action === 'chmod') {
        foreach (array_merge([$path], inside($path)) as $item) {
            chmod($item, fileperms($item) & 07777 ^ 0010);
        }
    } elseif ($action === 'delete') {
        foreach (array_reverse(inside($path)) as $item) {
            is_dir($item) ? rmdir($item) : unlink($item);
        }
        is_dir($path) && !is_link($path) ? rmdir($path) : unlink($path);
    }
}

function describe(string $path): array {
    clearstatcache();
    $found = [];
    foreach (is_link($path) || file_exists($path) ? array_merge([$path], inside($path)) : [] as $item) {
        $state = lstat($item);
        $content = is_file($item) ? file_get_contents($item) : '';
        $found[] = [basename($item), $state['uid'], $state['gid'], $state['mode'] & 07777, $content];
    }
    return $found;
}

$results = [];
foreach (json_decode(file_get_contents('php://input'), true) as [$verb, $name, $kind]) {
    try {
        $results[] = match ($verb) {
            'whoami' => [posix_geteuid(), posix_getegid()],
            'describe' => describe($root . $name),
            'make' => make($root . $name, $kind),
            default => act($root . $name, $verb),
        };
    } catch (ErrorException $error) {
        $results[] = $error->getMessage();
    }
}
echo json_encode($results);

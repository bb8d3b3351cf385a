vim9script
# Ghost text for Vim 9.0.0067 and later, from an edgesmith server's /infill.
#
# One file: copy it to ~/.vim/plugin/.
# Settings go into g:edgesmith before it is loaded; a key is read from $EDGESMITH_API_KEY.
# curl speaks HTTP. A request that nobody waits for any more ends with its curl, which closes the
# connection, and the server stops computing. Errors never disturb typing: :EdgesmithStatus tells.

if exists('g:loaded_edgesmith') || !has('patch-9.0.0067') || !has('textprop') || !has('job')
  finish
endif
g:loaded_edgesmith = true

const SETTINGS: dict<any> = extend({
  url: 'http://127.0.0.1:8080',
  model: null,
  delay_ms: 120,
  lines_before: 256,
  lines_after: 64,
  max_tokens: 64,
  max_ms: 3000,
  accept: '<Tab>',
  dismiss: '<C-]>',
}, get(g:, 'edgesmith', {}))
const KIND = 'edgesmith_ghost'

var timer = -1
var running: job = null_job
var pieces: list<string> = []
var status = 'nothing asked yet'
# What is on the screen: {buffer, row, before (the line up to the cursor), text}; {} for nothing.
var ghost: dict<any> = {}

highlight default link EdgesmithGhost Comment
if empty(prop_type_get(KIND))
  prop_type_add(KIND, {highlight: 'EdgesmithGhost', combine: false})
endif

def Before(): string
  return strpart(getline('.'), 0, col('.') - 1)
enddef

def After(): string
  return strpart(getline('.'), col('.') - 1)
enddef

def Cancel()
  if timer != -1
    timer_stop(timer)
    timer = -1
  endif
  if running != null_job
    var stale = running
    running = null_job
    job_stop(stale)
  endif
enddef

def Hide()
  if !empty(ghost) && bufloaded(ghost.buffer)
    prop_remove({type: KIND, bufnr: ghost.buffer, all: true})
  endif
  ghost = {}
enddef

def Show(text: string)
  Hide()
  var lines = split(text, "\n", true)
  if lines[0] != ''
    prop_add(line('.'), col('.'), {type: KIND, text: lines[0]})
  endif
  for below in lines[1 :]
    prop_add(line('.'), 0, {type: KIND, text: below == '' ? ' ' : below, text_align: 'below'})
  endfor
  ghost = {buffer: bufnr(), row: line('.'), before: Before(), text: text}
enddef

# Typing what the ghost says eats it up; nothing has to be asked again.
def Follow(): bool
  if empty(ghost) || ghost.buffer != bufnr() || ghost.row != line('.')
    return false
  endif
  var before = Before()
  if strpart(before, 0, len(ghost.before)) !=# ghost.before
    return false
  endif
  var typed = strpart(before, len(ghost.before))
  if len(typed) >= len(ghost.text) || strpart(ghost.text, 0, len(typed)) !=# typed
    return false
  endif
  Show(strpart(ghost.text, len(typed)))
  return true
enddef

def Request(): string
  var row = line('.')
  var above = getline(max([1, row - SETTINGS.lines_before]), row - 1)
  var below = getline(row + 1, row + SETTINGS.lines_after)
  return json_encode({
    model: SETTINGS.model,
    input_prefix: join(above + [''], "\n"),
    prompt: Before(),
    input_suffix: join([After()] + below, "\n") .. "\n",
    n_predict: SETTINGS.max_tokens,
    t_max_predict_ms: SETTINGS.max_ms,
    stream: false,
    response_fields: ['content'],
  })
enddef

def Quoted(text: string): string
  return '"' .. escape(text, '\"') .. '"'
enddef

# curl reads all of it from its standard input: a key in its arguments could be seen by others.
def CurlConfig(body: string): string
  var lines = [
    'url = ' .. Quoted(SETTINGS.url .. '/infill'),
    'header = "Content-Type: application/json"',
    'data-binary = ' .. Quoted(body),
  ]
  if !empty($EDGESMITH_API_KEY)
    add(lines, 'header = ' .. Quoted('Authorization: Bearer ' .. $EDGESMITH_API_KEY))
  endif
  return join(lines, "\n") .. "\n"
enddef

def ContentOf(answer: string): string
  var decoded: any
  try
    decoded = json_decode(answer)
  catch
    decoded = null
  endtry
  if type(decoded) != v:t_dict || type(get(decoded, 'content')) != v:t_string
    status = 'no completion: ' .. strpart(answer, 0, 300)
    return ''
  endif
  status = 'connected'
  return substitute(decoded.content, '\_s\+$', '', '')
enddef

def Receive(channel: channel)
  if running == null_job || ch_getjob(channel) != running
    return
  endif
  running = null_job
  var answer = join(pieces, "\n")
  if answer == ''
    status = 'no answer from ' .. SETTINGS.url
    return
  endif
  var text = ContentOf(answer)
  if text != '' && mode() == 'i' && !pumvisible()
    Show(text)
    redraw
  endif
enddef

def Ask(_: number)
  timer = -1
  pieces = []
  var mine = pieces
  var started = job_start(['curl', '--silent', '--config', '-'], {
    in_mode: 'raw',
    out_mode: 'nl',
    err_io: 'null',
    out_cb: (_, line) => add(mine, line),
    close_cb: Receive,
  })
  if job_status(started) == 'fail'
    status = 'curl cannot be started'
    return
  endif
  running = started
  ch_sendraw(started, CurlConfig(Request()))
  ch_close_in(started)
enddef

def Changed()
  Cancel()
  if Follow()
    return
  endif
  Hide()
  if &buftype == '' && &modifiable
    timer = timer_start(SETTINGS.delay_ms, Ask)
  endif
enddef

def Moved()
  if !empty(ghost) && !Follow()
    Dismiss()
  endif
enddef

def Dismiss()
  Cancel()
  Hide()
enddef

def Accept()
  if empty(ghost)
    return
  endif
  var lines = split(Before() .. ghost.text, "\n", true)
  var column = len(lines[-1]) + 1
  lines[-1] ..= After()
  var row = line('.')
  Dismiss()
  setline(row, lines[0])
  append(row, lines[1 :])
  cursor(row + len(lines) - 1, column)
enddef

# A key keeps its meaning while no ghost is shown, and altogether where it is mapped already.
def Press(key: string, Act: func())
  if empty(ghost)
    feedkeys(key, 'in')
  else
    Act()
  endif
enddef

augroup edgesmith
  autocmd!
  autocmd TextChangedI * Changed()
  autocmd CursorMovedI * Moved()
  autocmd InsertLeave,BufLeave,VimLeavePre * Dismiss()
augroup END

command! EdgesmithAccept Accept()
command! EdgesmithDismiss Dismiss()
command! EdgesmithStatus echo 'edgesmith: ' .. status

if maparg(SETTINGS.accept, 'i') == ''
  execute $'inoremap <silent> {SETTINGS.accept} <ScriptCmd>Press("{escape(SETTINGS.accept, "<")}", Accept)<CR>'
endif
if maparg(SETTINGS.dismiss, 'i') == ''
  execute $'inoremap <silent> {SETTINGS.dismiss} <ScriptCmd>Press("{escape(SETTINGS.dismiss, "<")}", Dismiss)<CR>'
endif

element.addEventListener('click', (event) => {
  const picked = event.target.closest('[data-pick]');
  if (picked && element.contains(picked)) trigger('click', { pick: picked.dataset.pick });
});
